from typing import Any

import pytest
import torch
from torch.testing import assert_close

from lit_vlm.encoders import CLIPEncoder, DINOv2Encoder, SigLIPEncoder, TimmEncoder, VisionEncoder
from lit_vlm.pretraining.patch_mask import PatchMask, patch_embedding

SIZES = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
STATISTICS: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def make(kind: str) -> VisionEncoder:
    torch.manual_seed(0)
    if kind == "clip":
        return CLIPEncoder(SIZES, image_size=32)
    if kind == "siglip":
        return SigLIPEncoder(SIZES, image_size=32)
    if kind == "timm":
        return TimmEncoder("test_vit", image_size=32, config=SIZES, **STATISTICS)
    port: Any = kind.removeprefix("dinov2_")
    return DINOv2Encoder(config=SIZES, image_size=32, port=port)


KINDS = ["clip", "siglip", "timm", "dinov2_transformers", "dinov2_timm"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_masked_is_not_seen_and_the_rest_is(kind: str) -> None:
    encoder = make(kind).eval()
    mask = PatchMask(encoder)
    torch.nn.init.normal_(mask.mask_token)
    images = torch.rand(2, 3, 32, 32)
    changed = images.clone()
    changed[1, :, :8, 8:16] = 0  # the second patch of the second image
    masks = torch.zeros(2, 16, dtype=torch.bool)
    masks[1, 1] = True
    plain = encoder(images).levels[-1]
    with mask.over(masks):
        seen, blind = encoder(images).levels[-1], encoder(changed).levels[-1]
    assert_close(seen, blind)
    assert_close(seen[0], plain[0])
    assert (seen[1] - plain[1]).abs().max() > 1e-3
    assert_close(encoder(images).levels[-1], plain)  # not any more


def test_transformers_own_mask_gives_the_same() -> None:
    encoder: Any = make("dinov2_transformers").eval()
    mask = PatchMask(encoder)
    torch.nn.init.normal_(mask.mask_token)
    masks = torch.rand(2, 16) < 0.5
    pixels = torch.randn(2, 3, 32, 32)
    embeddings = encoder.network.embeddings
    with mask.over(masks):
        ours = embeddings(pixels)
    embeddings.mask_token = torch.nn.Parameter(mask.mask_token.data[None])
    embeddings.use_mask_token = True
    assert_close(ours, embeddings(pixels, bool_masked_pos=masks))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_token_trains(checkpointing: bool) -> None:
    encoder = CLIPEncoder(SIZES, image_size=32, gradient_checkpointing=checkpointing)
    mask = PatchMask(encoder)
    with mask.over(torch.ones(1, 16, dtype=torch.bool)):
        features = encoder(torch.rand(1, 3, 32, 32))
    features.levels[-1].square().sum().backward()
    assert mask.mask_token.grad is not None
    assert mask.mask_token.grad.any()


def test_convolutional_networks_have_no_patches() -> None:
    encoder = TimmEncoder("test_resnet", layers=[2], image_size=32, **STATISTICS)
    assert patch_embedding(encoder) is None
    with pytest.raises(ValueError, match="patch_weight must be 0 for an encoder.*got TimmEncoder"):
        PatchMask(encoder)
