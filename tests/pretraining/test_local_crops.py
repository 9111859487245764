from typing import Any

import pytest
import torch

from lit_vlm.data import MultiCrop
from lit_vlm.encoders import CLIPEncoder, TimmEncoder
from lit_vlm.pretraining.local_crops import LocalCrops

SIZES = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
STATISTICS: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def test_their_size_is_in_whole_patches() -> None:
    encoder = CLIPEncoder(SIZES, image_size=32)
    assert LocalCrops.of(MultiCrop(), encoder).views.local_size == 16
    with pytest.raises(ValueError, match="local_size must be a multiple .* 8 pixels, got 20"):
        LocalCrops.of(MultiCrop(local_size=20), encoder)


def test_they_are_seen_at_their_own_size() -> None:
    encoder = CLIPEncoder(SIZES, image_size=32)
    local = LocalCrops.of(MultiCrop(), encoder)
    assert local.encode(encoder, torch.zeros(3, 3, 16, 16)).grid == (2, 2)


def test_a_network_of_one_size_gets_them_enlarged() -> None:
    config = {**SIZES, "dynamic_img_size": False}
    encoder = TimmEncoder("test_vit", image_size=32, config=config, **STATISTICS)
    with pytest.warns(UserWarning, match="works at one size only"):
        local = LocalCrops.of(MultiCrop(), encoder)
    assert local.encode(encoder, torch.zeros(3, 3, 16, 16)).grid == (4, 4)
    LocalCrops.of(MultiCrop(num_local=0), encoder)  # nothing to warn of


def test_transformers_of_timm_can_be_asked_for_other_sizes() -> None:
    config = {**SIZES, "dynamic_img_size": True}
    encoder = TimmEncoder("test_vit", image_size=32, config=config, **STATISTICS)
    local = LocalCrops.of(MultiCrop(), encoder)
    assert local.encode(encoder, torch.zeros(3, 3, 16, 16)).grid == (2, 2)
