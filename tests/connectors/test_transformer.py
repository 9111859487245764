from collections.abc import Callable
from typing import Any, Literal, cast

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from lit_vlm.connectors import TransformerConnector
from lit_vlm.testing import check_connector


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("num_patches", [1, 6, 16])
def test_contract(depth: int, num_patches: int) -> None:
    check_connector(TransformerConnector(in_dim=8, out_dim=12, depth=depth), num_patches)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_contract_with_other_sizes(heads: int) -> None:
    connector = TransformerConnector(
        in_dim=8, out_dim=12, num_heads=heads, mlp_ratio=1.5, activation="gelu"
    )
    check_connector(connector, num_patches=6)


def test_without_blocks_it_is_a_linear_layer_and_a_norm() -> None:
    connector = TransformerConnector(in_dim=2, out_dim=2, depth=0)
    with torch.no_grad():
        connector.project.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 2.0]]))
        connector.project.bias.copy_(torch.tensor([0.0, 1.0]))
        connector.norm.weight.copy_(torch.tensor([3.0, 1.0]))
    # (1, 2) -> (3, 5), whose norm is (-1, 1).
    assert_close(connector(torch.tensor([[[1.0, 2.0]]])), torch.tensor([[[-3.0, 1.0]]]))
    assert connector.norm.eps == 1e-12


def in_our_names(layer: Any, of: Callable[[Any], Any] = lambda weight: weight) -> dict[str, Tensor]:
    """Return weights, or what ``of`` makes of them, of transformers' layer by our names."""
    attention = layer.self_attn
    modules = {"norm1": layer.layer_norm1, "norm2": layer.layer_norm2}
    modules |= {"mlp.0": layer.mlp.fc1, "mlp.2": layer.mlp.fc2}
    modules |= {"attention.out_proj": attention.out_proj}
    named: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        named |= {f"{name}.{kind}": of(getattr(mod, kind)) for name, mod in modules.items()}
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        joined = [of(getattr(projection, kind)) for projection in projections]
        named[f"attention.in_proj_{kind}"] = torch.cat(joined)
    return named


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_block_is_clips_in_values_and_gradients(
    activation: Literal["quick_gelu", "gelu"],
) -> None:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=12, intermediate_size=48, num_attention_heads=3, hidden_act=activation
    )
    layer = CLIPEncoderLayer(config)
    for parameter in layer.parameters():  # initial norms are 1 and biases 0: hide no mistake
        nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.3)
    connector = TransformerConnector(12, 16, num_heads=3, activation=activation)
    [block] = connector.blocks
    block.load_state_dict(in_our_names(layer))

    tokens = torch.randn(2, 6, 12, requires_grad=True)
    others = tokens.detach().clone().requires_grad_()
    output, expected = block(tokens), layer(others, None)
    assert_close(output, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(output) / 12
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_close(tokens.grad, others.grad, atol=1e-5, rtol=1e-5)
    for name, gradient in in_our_names(layer, of=lambda weight: weight.grad).items():
        assert_close(block.get_parameter(name).grad, gradient, atol=1e-5, rtol=1e-5, msg=name)


def test_has_the_layers_of_deepspeed_visualchats_vit() -> None:
    # microsoft/DeepSpeedExamples, applications/DeepSpeed-VisualChat/utils/model/vis_proj.py
    config = CLIPVisionConfig(hidden_size=12, intermediate_size=48, num_attention_heads=3)
    layer = CLIPEncoderLayer(config)
    projection = nn.Sequential(nn.Linear(12, 16), nn.LayerNorm(16, eps=1e-12))
    connector = TransformerConnector(12, 16, num_heads=3)
    connector.blocks[0].load_state_dict(in_our_names(layer))
    connector.project.load_state_dict(projection[0].state_dict())
    tokens = torch.randn(2, 6, 12)
    assert_close(connector(tokens), projection(layer(tokens, None)), atol=1e-5, rtol=1e-5)


def test_patches_see_each_other_in_blocks_only() -> None:
    tokens = torch.randn(1, 6, 8)
    other = tokens.clone()
    other[0, 5] = torch.randn(8)
    for depth in (0, 1):
        connector = TransformerConnector(in_dim=8, out_dim=12, depth=depth)
        alike = torch.allclose(connector(tokens)[0, 0], connector(other)[0, 0], atol=1e-6)
        assert alike is (depth == 0)


def test_clips_sizes_are_the_defaults() -> None:
    with torch.device("meta"):
        connector = TransformerConnector(in_dim=1024, out_dim=16)
    [block] = connector.blocks
    assert isinstance(block.attention, nn.MultiheadAttention)
    assert block.attention.num_heads == 16
    assert isinstance(block.mlp, nn.Sequential)
    assert isinstance(block.mlp[0], nn.Linear)
    assert block.mlp[0].out_features == 4096


def test_refuses_fewer_than_no_blocks() -> None:
    message = "TransformerConnector: depth must be at least 0, got -1"
    with pytest.raises(ValueError, match=message):
        TransformerConnector(in_dim=8, out_dim=12, depth=-1)


def test_refuses_heads_that_do_not_divide_the_width() -> None:
    message = "TransformerConnector: num_heads must divide the width 8, got 3. Leave it out for 1"
    with pytest.raises(ValueError, match=message):
        TransformerConnector(in_dim=8, out_dim=12, num_heads=3)


def test_refuses_a_hidden_layer_without_width() -> None:
    message = "TransformerConnector: mlp_ratio must .* got 0.1 for a width of 8. Give a larger"
    with pytest.raises(ValueError, match=message):
        TransformerConnector(in_dim=8, out_dim=12, mlp_ratio=0.1)


def test_refuses_an_unknown_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse it first
    message = "TransformerConnector: activation must be one of quick_gelu, gelu, got 'relu'"
    with pytest.raises(ValueError, match=message):
        TransformerConnector(8, 12, activation=cast(Literal["gelu"], "relu"))
