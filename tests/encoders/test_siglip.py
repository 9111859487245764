from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.cli import instantiate_module
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from lit_vlm.encoders import SigLIPEncoder

SIZES: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 8}


def encoder(side: int = 32, **options: Any) -> SigLIPEncoder:
    torch.manual_seed(0)
    return SigLIPEncoder(SIZES, image_size=side, **options).eval()


def some_images(side: int = 32) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)


def test_positions_are_made_at_the_inputs_size_unless_config_says_otherwise() -> None:
    assert encoder().network.embeddings.position_embedding.weight.shape == (16, 32)
    other = SigLIPEncoder({**SIZES, "image_size": 48}, image_size=32)
    assert other.grid == (4, 4)
    assert other.network.embeddings.position_embedding.weight.shape == (36, 32)


def test_pixels_are_between_minus_one_and_one() -> None:
    pixels = encoder().preprocess(torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 32, 2))
    assert float(pixels.min()) >= -1
    assert float(pixels.max()) <= 1
    assert encoder().mean.flatten().tolist() == [0.5] * 3
    assert encoder().std.flatten().tolist() == [0.5] * 3


def test_the_pooling_head_is_kept_only_to_pool() -> None:
    assert encoder().network.head is None
    assert encoder(pool=True).network.head is not None
    assert encoder().eval()(some_images()).pooled is None


def test_the_pooled_output_depends_on_every_patch() -> None:
    network = encoder(pool=True)
    images = some_images()
    with torch.no_grad():
        before = network(images).pooled
        images[:, :, 24:, 24:] ^= 255
        after = network(images).pooled
    assert before is not None
    assert before.shape == (2, 32)
    assert not torch.equal(before, after)


def without_head(folder: Path) -> Path:
    config = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        vision_use_head=False,
    )
    SiglipVisionModel(config).save_pretrained(folder)
    return folder


def test_reads_a_network_without_its_pooling_head(tmp_path: Path) -> None:
    network = SigLIPEncoder(pretrained=without_head(tmp_path), layers=[-1, 0], norm=True)
    again = instantiate_module(SigLIPEncoder, network.rebuild_config()["init_args"])
    again.load_state_dict(network.state_dict())
    images = some_images()
    with torch.no_grad():
        assert torch.equal(again(images).levels[0], network(images).levels[0])


def test_refuses_to_pool_without_the_head(tmp_path: Path) -> None:
    message = r"SigLIPEncoder: pool must be off .* \(vision_use_head: false\), got pool=True"
    with pytest.raises(ValueError, match=message):
        SigLIPEncoder(pretrained=without_head(tmp_path), pool=True)
    with pytest.raises(ValueError, match=message):
        SigLIPEncoder({**SIZES, "vision_use_head": False}, image_size=32, pool=True)
