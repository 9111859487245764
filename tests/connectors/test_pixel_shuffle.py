import pytest
import torch
from einops import rearrange
from torch import nn

from lit_vlm.connectors import PixelShuffleConnector
from lit_vlm.testing import check_connector


@pytest.mark.parametrize("scale", [1, 2, 3, 6])
def test_contract(scale: int) -> None:
    connector = PixelShuffleConnector(in_dim=8, out_dim=12, scale=scale)
    check_connector(connector, num_patches=36)


def test_stacks_windows_in_row_major_order() -> None:
    connector = PixelShuffleConnector(in_dim=1, out_dim=4, scale=2)
    with torch.no_grad():
        nn.init.eye_(connector.project.weight)  # the stacking alone
    patches = rearrange(torch.arange(16.0), "n -> 1 n 1")  # rows 0-3, 4-7, 8-11, 12-15
    expected = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert torch.equal(connector(patches), torch.tensor([expected]).float())


def test_the_projection_has_no_bias() -> None:
    assert PixelShuffleConnector(in_dim=8, out_dim=12).project.bias is None


@pytest.mark.parametrize(("scale", "tokens"), [(1, 576), (2, 144), (3, 64), (4, 36)])
def test_576_patches_become_fewer(scale: int, tokens: int) -> None:
    assert PixelShuffleConnector(in_dim=8, out_dim=12, scale=scale).num_tokens(576) == tokens


@pytest.mark.parametrize("num_patches", [16, 27, 17])
def test_refuses_windows_that_do_not_tile(num_patches: int) -> None:
    connector = PixelShuffleConnector(in_dim=8, out_dim=12, scale=3)
    message = f"PixelShuffleConnector: .* square grid, its side a multiple of 3, got {num_patches}"
    with pytest.raises(ValueError, match=message):
        connector.num_tokens(num_patches)
    with pytest.raises(ValueError, match=message):
        connector(torch.zeros(1, num_patches, 8))


def test_refuses_a_scale_of_0() -> None:
    with pytest.raises(ValueError, match="PixelShuffleConnector: scale must be at least 1, got 0"):
        PixelShuffleConnector(in_dim=8, out_dim=12, scale=0)
