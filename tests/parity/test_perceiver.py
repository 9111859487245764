"""The deeper CrossAttentionResampler against transformers' perceiver resampler of IDEFICS."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.testing import assert_close
from transformers import IdeficsConfig
from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

from lit_vlm.connectors import CrossAttentionResampler
from lit_vlm.positions import interpolate_positions

IN, OUT, QUERIES, HEADS = 12, 24, 4, 3
SIZES = pytest.mark.parametrize(("depth", "side"), [(2, 2), (2, 3), (3, 5), (6, 2)])


def shaken(depth: int) -> CrossAttentionResampler:
    torch.manual_seed(0)
    connector = CrossAttentionResampler(IN, OUT, num_queries=QUERIES, num_heads=HEADS, depth=depth)
    for parameter in connector.parameters():  # initial norms are 1 and biases 0: hide no mistake
        nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.2)
    return connector


def in_their_names(
    connector: CrossAttentionResampler, of: Callable[[Any], Any] = lambda weight: weight
) -> dict[str, Tensor]:
    """Return weights, or what ``of`` makes of them, of our layers by transformers' names."""
    names = {
        "norm_context": "0.context_layer_norm",
        "norm_latents": "0.latents_layer_norm",
        "attention.out_proj": "0.output_proj",
        "mlp.0": "1.ln",
        "mlp.1": "1.fc",
        "mlp.3": "1.c_proj",
    }
    renamed = {}
    for index, layer in enumerate(connector.layers):
        for name, weight in layer.named_parameters():
            ours, _, kind = name.rpartition(".")
            if name == "attention.in_proj_weight":
                for which, part in zip("qkv", of(weight).chunk(3), strict=True):
                    renamed[f"blocks.{index}.0.{which}_proj.weight"] = part
            else:
                renamed[f"blocks.{index}.{names[ours]}.{kind}"] = of(weight)
    renamed |= {f"layer_norm.{k}": of(v) for k, v in connector.norm_out.named_parameters()}
    return renamed


def theirs(connector: CrossAttentionResampler) -> Any:
    network = IdeficsPerceiverResampler(
        IdeficsConfig(vision_config={"embed_dim": OUT}),
        embed_dim=OUT,
        depth=len(connector.layers),
        n_heads=HEADS,
        head_dim=OUT // HEADS,
        n_latents=QUERIES,
    )
    network.layer_norm.eps = connector.norm_out.eps
    network.load_state_dict({**in_their_names(connector), "latents": network.latents})
    return network


def by_them(connector: CrossAttentionResampler, network: Any, tokens: Tensor, side: int) -> Tensor:
    """Put their network between our projections."""
    context = connector.norm_in(connector.project_in(tokens))
    context = context + interpolate_positions(connector.positions, (side, side))
    latents = connector.norm_queries(connector.queries) + connector.positions
    read = functional_call(network, {"latents": latents}, (context,))
    assert isinstance(read, Tensor)
    return connector.project_out(read)


@SIZES
def test_values_are_transformers(depth: int, side: int) -> None:
    connector = shaken(depth)
    tokens = torch.randn(3, side**2, IN)
    with torch.no_grad():
        expected = by_them(connector, theirs(connector), tokens, side)
        assert expected.std() > 0.1, "the tokens must say something"
        assert_close(connector(tokens), expected, atol=1e-5, rtol=1e-5)


@SIZES
def test_gradients_are_transformers(depth: int, side: int) -> None:
    connector = shaken(depth)
    twin = deepcopy(connector)
    network = theirs(connector)
    tokens = torch.randn(3, side**2, IN, requires_grad=True)
    others = tokens.detach().clone().requires_grad_()
    weights = torch.randn(3, QUERIES, OUT) / OUT
    (connector(tokens) * weights).sum().backward()
    torch.autograd.backward((by_them(twin, network, others, side) * weights).sum())
    assert_close(tokens.grad, others.grad, atol=1e-5, rtol=1e-5)

    for name, gradient in in_their_names(connector, of=lambda weight: weight.grad).items():
        expected = network.get_parameter(name).grad
        assert_close(gradient, expected, atol=1e-5, rtol=1e-5, msg=name)
    of_twin = dict(twin.named_parameters())
    for name in ("queries", "project_in.weight", "norm_queries.weight", "project_out.weight"):
        ours = connector.get_parameter(name).grad
        assert_close(ours, of_twin[name].grad, atol=1e-5, rtol=1e-5, msg=name)
