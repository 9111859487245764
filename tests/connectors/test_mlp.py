import re
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


def test_has_the_layers_of_prismatics_fused_gelu_mlp() -> None:
    # https://github.com/TRI-ML/prismatic-vlms, prismatic/util/nn_utils.py
    prismatic = nn.Sequential(
        nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 12), nn.GELU(), nn.Linear(12, 12)
    )
    connector = MLPConnector(in_dim=8, out_dim=12, depth=3, width=[32, 12])
    connector.layers.load_state_dict(prismatic.state_dict())
    tokens = torch.randn(2, 6, 8)
    assert torch.equal(connector(tokens), prismatic(tokens))


@pytest.mark.parametrize(
    ("width", "dims"), [(None, [8, 12, 12, 12]), (5, [8, 5, 5, 12]), ([5, 6], [8, 5, 6, 12])]
)
def test_hidden_layers_are_as_wide_as_asked(width: int | list[int] | None, dims: list[int]) -> None:
    connector = MLPConnector(in_dim=8, out_dim=12, depth=3, width=width)
    layers = [layer for layer in connector.layers if isinstance(layer, nn.Linear)]
    assert [layers[0].in_features, *(layer.out_features for layer in layers)] == dims
    check_connector(connector, num_patches=6)


@pytest.mark.parametrize(
    ("depth", "width"), [(3, [5]), (2, [5, 5]), (2, 0), (3, [5, -1]), (1, 5), (1, [])]
)
def test_refuses_widths_that_are_not_those_of_its_hidden_layers(
    depth: int, width: int | list[int]
) -> None:
    message = f"depth={depth} has {depth - 1}, got {re.escape(str(width))}. Leave it out"
    with pytest.raises(ValueError, match=f"MLPConnector: width must be positive.*{message}"):
        MLPConnector(in_dim=8, out_dim=12, depth=depth, width=width)


def test_refuses_no_layers() -> None:
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        MLPConnector(in_dim=8, out_dim=12, depth=0)


def test_refuses_an_unknown_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse it first
    with pytest.raises(ValueError, match="one of gelu, relu, silu, tanh, got 'gleu'"):
        MLPConnector(in_dim=8, out_dim=12, activation=cast(Activation, "gleu"))
