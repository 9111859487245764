from typing import Literal, cast

import jaxtyping
import pytest
import torch
from einops import rearrange
from torch.testing import assert_close

from lit_vlm.connectors import MLPConnector, PoolingConnector
from lit_vlm.testing import check_connector


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("depth", [1, 2])
def test_contract(stride: int, depth: int) -> None:
    connector = PoolingConnector(in_dim=8, out_dim=12, stride=stride, depth=depth)
    check_connector(connector, num_patches=16)


def test_averages_windows_in_row_major_order() -> None:
    connector = PoolingConnector(in_dim=1, out_dim=1, stride=2, depth=1)
    with torch.no_grad():
        for parameter, value in zip(connector.parameters(), (1.0, 0.0), strict=True):
            parameter.fill_(value)  # the pooling alone
    patches = rearrange(torch.arange(16.0), "n -> 1 n 1")  # rows 0-3, 4-7, 8-11, 12-15
    assert_close(connector(patches).flatten(), torch.tensor([2.5, 4.5, 10.5, 12.5]))


def test_with_a_stride_of_1_it_is_an_mlp() -> None:
    connector = PoolingConnector(in_dim=8, out_dim=12, stride=1, activation="silu")
    mlp = MLPConnector(in_dim=8, out_dim=12, activation="silu")
    mlp.load_state_dict(connector.mlp.state_dict())
    tokens = torch.randn(2, 9, 8)
    assert torch.equal(connector(tokens), mlp(tokens))


def test_576_patches_become_144() -> None:
    assert PoolingConnector(in_dim=8, out_dim=12).num_tokens(576) == 144


@pytest.mark.parametrize("num_patches", [15, 8, 9])
def test_refuses_windows_that_do_not_tile(num_patches: int) -> None:
    connector = PoolingConnector(in_dim=8, out_dim=12, stride=2)
    message = f"PoolingConnector: .* square grid, its side a multiple of 2, got {num_patches}"
    with pytest.raises(ValueError, match=message):
        connector.num_tokens(num_patches)
    with pytest.raises(ValueError, match=message):
        connector(torch.zeros(1, num_patches, 8))


def test_refuses_a_stride_of_0() -> None:
    with pytest.raises(ValueError, match="PoolingConnector: stride must be at least 1, got 0"):
        PoolingConnector(in_dim=8, out_dim=12, stride=0)


def test_refuses_an_mlp_without_layers() -> None:
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        PoolingConnector(in_dim=8, out_dim=12, depth=0)


def test_refuses_an_unknown_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse it first
    with pytest.raises(ValueError, match="one of gelu, relu, silu, tanh, got 'gleu'"):
        PoolingConnector(8, 12, activation=cast(Literal["gelu"], "gleu"))
