from typing import Literal, cast

import jaxtyping
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lit_vlm.connectors import MLPConnector
from lit_vlm.testing import check_connector

Activation = Literal["gelu", "relu", "silu", "tanh"]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("activation", ["gelu", "relu", "silu", "tanh"])
def test_contract(depth: int, activation: Activation) -> None:
    connector = MLPConnector(in_dim=8, out_dim=12, depth=depth, activation=activation)
    check_connector(connector, num_patches=6)


def test_the_activation_stands_between_the_layers_only() -> None:
    connector = MLPConnector(in_dim=1, out_dim=1, depth=3, activation="relu")
    with torch.no_grad():
        for layer, weight in zip(connector.layers[::2], (1.0, -2.0, -3.0), strict=True):
            assert isinstance(layer, nn.Linear)
            layer.weight.fill_(weight)
            layer.bias.fill_(1.0)
    # -0.5: 0.5 -> 0.5 -> 0.0 -> 0.0 -> 1.0.  -3: -2 -> 0 -> 1 -> 1 -> -2, which stays negative.
    tokens = torch.tensor([[[-0.5], [-3.0]]])
    assert_close(connector(tokens), torch.tensor([[[1.0], [-2.0]]]))


def test_has_the_layers_of_llavas_mlp2x_gelu() -> None:
    # https://github.com/haotian-liu/LLaVA, llava/model/multimodal_projector/builder.py
    llava = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 12))
    connector = MLPConnector(in_dim=8, out_dim=12)
    connector.layers.load_state_dict(llava.state_dict())
    tokens = torch.randn(2, 6, 8)
    assert torch.equal(connector(tokens), llava(tokens))


def test_refuses_no_layers() -> None:
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        MLPConnector(in_dim=8, out_dim=12, depth=0)


def test_refuses_an_unknown_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse it first
    with pytest.raises(ValueError, match="one of gelu, relu, silu, tanh, got 'gleu'"):
        MLPConnector(in_dim=8, out_dim=12, activation=cast(Activation, "gleu"))
