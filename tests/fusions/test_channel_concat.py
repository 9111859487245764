import pytest
import torch
from torch import Tensor

from lit_vlm.fusions import ChannelConcat
from lit_vlm.testing import check_fusion

InDims = list[list[int]]


def prismatic(dino_patches: Tensor, siglip_patches: Tensor) -> Tensor:
    # https://github.com/TRI-ML/prismatic-vlms, prismatic/models/backbones/vision/dinosiglip_vit.py
    return torch.cat([dino_patches, siglip_patches], dim=2)


@pytest.mark.parametrize("in_dims", [[[8]], [[8], [12]], [[8], [4], [8]]], ids=str)
def test_contract(in_dims: InDims) -> None:
    check_fusion(ChannelConcat(in_dims), num_patches=6)


def test_puts_the_channels_of_a_patch_side_by_side() -> None:
    first, second = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[10.0, 11.0], [20.0, 21.0]]])
    expected = torch.tensor([[[1.0, 10.0, 11.0], [2.0, 20.0, 21.0]]])
    assert torch.equal(ChannelConcat([[1], [2]])((first, second)), expected)


def test_does_what_prismatic_does() -> None:
    fusion = ChannelConcat([[8], [12]])
    dino, siglip = torch.randn(2, 6, 8), torch.randn(2, 6, 12)
    assert torch.equal(fusion((dino, siglip)), prismatic(dino, siglip))


@pytest.mark.parametrize(
    ("in_dims", "encoder", "count"),
    [([[8], [8, 8]], 1, 2), ([[8, 8, 8], [8]], 0, 3), ([[8], []], 1, 0), ([[8, 8]], 0, 2)],
)
def test_refuses_several_levels_of_an_encoder(in_dims: InDims, encoder: int, count: int) -> None:
    message = f"exactly one level, got {count} of encoder {encoder}. Ask it for one layer, or use"
    with pytest.raises(ValueError, match=f"ChannelConcat: .* {message} ConcatLevels or COMMFusion"):
        ChannelConcat(in_dims)
