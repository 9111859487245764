import math

import pytest
import torch
from torch.testing import assert_close

from lit_vlm.fusions import MeanLevels, WeightedLevels
from lit_vlm.testing import check_fusion

InDims = list[list[int]]


@pytest.mark.parametrize("in_dims", [[[8]], [[8, 8]], [[8, 8, 8], [8]]], ids=str)
def test_contract(in_dims: InDims) -> None:
    check_fusion(WeightedLevels(in_dims), num_patches=6)


def test_weights_are_the_softmax_of_the_logits() -> None:
    fusion = WeightedLevels([[1], [1, 1]])
    with torch.no_grad():
        fusion.logits.copy_(torch.tensor([0.0, math.log(2.0), math.log(5.0)]))  # 1 : 2 : 5
    levels = tuple(torch.tensor([[[value]]]) for value in (8.0, 16.0, -8.0))
    assert_close(fusion.level_weights, torch.tensor([0.125, 0.25, 0.625]))
    assert_close(fusion(levels), torch.tensor([[[0.0]]]))  # 1 + 4 - 5


def test_starts_as_the_mean() -> None:
    levels = tuple(torch.randn(2, 6, 8) for _ in range(3))
    assert_close(WeightedLevels([[8, 8, 8]])(levels), MeanLevels([[8, 8, 8]])(levels))


def test_learns_which_level_is_useful() -> None:
    torch.manual_seed(0)
    fusion = WeightedLevels([[8, 8, 8]])
    optimizer = torch.optim.Adam(fusion.parameters(), lr=0.3)
    for _ in range(40):
        levels = tuple(torch.randn(2, 6, 8) for _ in range(3))
        optimizer.zero_grad()
        (fusion(levels) - levels[1]).square().mean().backward()
        optimizer.step()
    assert fusion.level_weights[1] > 0.9


def test_keeps_the_precision_of_its_levels() -> None:
    levels = tuple(torch.randn(2, 6, 8, dtype=torch.bfloat16) for _ in range(2))
    assert WeightedLevels([[8, 8]])(levels).dtype is torch.bfloat16


def test_refuses_levels_of_unequal_widths() -> None:
    with pytest.raises(ValueError, match="WeightedLevels: .* widths, got 8, 12. Use LLNLayerscale"):
        WeightedLevels([[8, 12]])
