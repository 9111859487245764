from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from lit_vlm.encoders import (
    CLIPEncoder,
    DINOv2Encoder,
    EnsembleEncoder,
    SigLIPEncoder,
    TimmEncoder,
    VisionEncoder,
)
from lit_vlm.encoders.other_size import encode_at_size, takes_size

SIZES = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
STATISTICS: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
RESAMPLING: dict[str, Callable[..., VisionEncoder]] = {
    "clip": lambda **options: CLIPEncoder(SIZES, image_size=32, **options),
    "siglip": lambda **options: SigLIPEncoder(SIZES, image_size=32, **options),
    "dinov2": lambda **options: DINOv2Encoder(config=SIZES, image_size=32, **options),
}


@pytest.mark.parametrize("name", RESAMPLING)
def test_is_what_the_encoder_would_see_at_that_size(name: str) -> None:
    encoder = RESAMPLING[name](pool=True).eval()
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    small = encode_at_size(encoder, images, (16, 16))
    assert (encoder.image_size, encoder.grid) == ((32, 32), (4, 4))
    encoder.set_image_size(16)
    expected = encoder(images)
    assert small.grid == expected.grid == (2, 2)
    assert_close(small.levels[0], expected.levels[0], rtol=0, atol=0)
    assert_close(small.pooled, expected.pooled, rtol=0, atol=0)


def test_gradients_are_right_behind_a_pass_at_the_own_size() -> None:
    images = torch.rand(2, 3, 16, 16)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = RESAMPLING["clip"](gradient_checkpointing=checkpointing)
        small = encode_at_size(encoder, images, (16, 16)).levels[-1].square().sum()
        large = encoder(images).levels[-1].square().sum()
        (small + large).backward()
        gradients.append([p.grad for p in encoder.parameters() if p.grad is not None])
    assert_close(gradients[0], gradients[1])


def test_other_shapes_are_resized_first() -> None:
    encoder = RESAMPLING["clip"]()
    assert encode_at_size(encoder, torch.rand(1, 3, 40, 50), (16, 24)).grid == (2, 3)


def test_says_which_encoders_can() -> None:
    fixed = {**SIZES, "dynamic_img_size": False}
    vit = TimmEncoder("test_vit", image_size=32, config=fixed, **STATISTICS)
    resnet = TimmEncoder("test_resnet", layers=[2], image_size=32, **STATISTICS)
    assert not takes_size(vit, (16, 16))
    assert takes_size(vit, (32, 32))
    assert takes_size(resnet, (16, 16))
    both = EnsembleEncoder({"vit": vit, "clip": RESAMPLING["clip"]()})
    assert takes_size(both, (16, 16))  # each member resizes by itself
