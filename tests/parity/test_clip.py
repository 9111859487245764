"""CLIPEncoder against transformers' own forward pass of the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import CLIPVisionConfig, CLIPVisionModel

from lit_vlm.encoders import CLIPEncoder

DEPTH, SIDE, OTHER = 3, 32, 48
SIDES = pytest.mark.parametrize("side", [SIDE, OTHER, 16])


def saved(folder: Path, hidden_act: str = "quick_gelu") -> Any:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=8,
        hidden_act=hidden_act,
    )
    network: Any = CLIPVisionModel(config)
    with torch.no_grad():
        for parameter in network.parameters():  # initial norms are 1 and biases 0: hide no mistake
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    network.save_pretrained(folder)
    return network.train()


def theirs(network: Any, ours: CLIPEncoder, images: Tensor) -> Any:
    pixels = ours.preprocess(images)
    return network(pixels, interpolate_pos_encoding=True, output_hidden_states=True)


def some_images(side: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)


@SIDES
@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
@torch.no_grad()
def test_every_layer_and_the_pooled_output_are_transformers(
    tmp_path: Path, side: int, hidden_act: str
) -> None:
    network = saved(tmp_path, hidden_act)
    layers = range(DEPTH + 1)
    ours = CLIPEncoder(pretrained=tmp_path, layers=layers, image_size=side, pool=True)
    images = some_images(side)
    features, expected = ours(images), theirs(network, ours, images)
    assert len(expected.hidden_states) == DEPTH + 1
    for layer, (level, state) in enumerate(
        zip(features.levels, expected.hidden_states, strict=True)
    ):
        assert_close(level, state[:, 1:], atol=1e-5, rtol=1e-5, msg=f"layer {layer}")
    assert_close(features.pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)
    deepest = features.levels[-1]
    assert_close(deepest, expected.last_hidden_state[:, 1:], atol=1e-5, rtol=1e-5)


@SIDES
def test_gradients_are_transformers(tmp_path: Path, side: int) -> None:
    network = saved(tmp_path)
    ours = CLIPEncoder(pretrained=tmp_path, layers=[-2], image_size=side)
    images = some_images(side)
    weights = torch.randn(2, ours.num_tokens, 32)
    torch.autograd.backward((ours(images).levels[0] * weights).sum())
    state = theirs(network, ours, images).hidden_states[-2]
    torch.autograd.backward((state[:, 1:] * weights).sum())
    expected = dict(network.named_parameters())
    names = {name for name, _ in ours.network.named_parameters()}
    assert names == {name for name, weight in expected.items() if weight.grad is not None}
    for name, weight in ours.network.named_parameters():
        assert weight.grad is not None
        assert_close(weight.grad, expected[name].grad, atol=1e-4, rtol=1e-4, msg=name)


@torch.no_grad()
def test_at_their_own_size_positions_are_not_interpolated(tmp_path: Path) -> None:
    network = saved(tmp_path)
    ours = CLIPEncoder(pretrained=tmp_path, layers=[-1])
    images = some_images(SIDE)
    plain = network(ours.preprocess(images)).last_hidden_state
    assert_close(ours(images).levels[0], plain[:, 1:], atol=1e-5, rtol=1e-5)
