import pytest
import torch
from torch.testing import assert_close

from lit_vlm.fusions import MeanLevels
from lit_vlm.testing import check_fusion

InDims = list[list[int]]


@pytest.mark.parametrize("in_dims", [[[8]], [[8, 8]], [[8, 8, 8], [8]]], ids=str)
def test_contract(in_dims: InDims) -> None:
    check_fusion(MeanLevels(in_dims), num_patches=6)


def test_each_level_counts_alike() -> None:
    levels = tuple(torch.tensor([[[value, 0.0]]]) for value in (1.0, 2.0, 6.0))
    assert_close(MeanLevels([[2, 2], [2]])(levels), torch.tensor([[[3.0, 0.0]]]))


def test_a_single_level_stays_as_it_is() -> None:
    level = torch.randn(2, 6, 8)
    assert torch.equal(MeanLevels([[8]])((level,)), level)


def test_refuses_levels_of_unequal_widths() -> None:
    with pytest.raises(ValueError, match="MeanLevels: .* equal widths, got 8, 12. Use LLNLayersc"):
        MeanLevels([[8], [12]])
