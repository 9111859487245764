import pytest
import torch

from lit_vlm.fusions import ConcatLevels
from lit_vlm.testing import check_fusion

InDims = list[list[int]]


@pytest.mark.parametrize("in_dims", [[[8]], [[8, 8]], [[8, 12], [4]]], ids=str)
def test_contract(in_dims: InDims) -> None:
    check_fusion(ConcatLevels(in_dims), num_patches=6)


def test_levels_keep_their_order() -> None:
    levels = (torch.tensor([[[3.0]]]), torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.0]]]))
    fused = ConcatLevels([[1, 2], [1]])(levels)
    assert torch.equal(fused, torch.tensor([[[3.0, 1.0, 2.0, 0.0]]]))
