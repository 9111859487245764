"""SigLIPEncoder against the forward passes of transformers and timm with the same weights."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close
from transformers import SiglipVisionConfig, SiglipVisionModel

from lit_vlm.encoders import SigLIPEncoder

DEPTH, SIDE, OTHER = 3, 32, 48
SIDES = pytest.mark.parametrize("side", [SIDE, OTHER, 16])


def saved(folder: Path, hidden_act: str = "gelu_pytorch_tanh") -> Any:
    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=8,
        hidden_act=hidden_act,
    )
    network: Any = SiglipVisionModel(config)
    with torch.no_grad():
        for parameter in network.parameters():  # initial norms are 1 and biases 0: hide no mistake
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    network.save_pretrained(folder)
    return network.train()


def theirs(network: Any, ours: SigLIPEncoder, images: Tensor) -> Any:
    pixels = ours.preprocess(images)
    return network(pixels, interpolate_pos_encoding=True, output_hidden_states=True)


def some_images(side: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)


@SIDES
@pytest.mark.parametrize("hidden_act", ["gelu_pytorch_tanh", "gelu"])
@torch.no_grad()
def test_every_layer_and_the_pooled_output_are_transformers(
    tmp_path: Path, side: int, hidden_act: str
) -> None:
    network = saved(tmp_path, hidden_act)
    layers = range(DEPTH + 1)
    ours = SigLIPEncoder(pretrained=tmp_path, layers=layers, image_size=side, pool=True)
    images = some_images(side)
    features, expected = ours(images), theirs(network, ours, images)
    assert len(expected.hidden_states) == DEPTH + 1
    for layer, (level, state) in enumerate(
        zip(features.levels, expected.hidden_states, strict=True)
    ):
        assert_close(level, state, atol=1e-5, rtol=1e-5, msg=f"layer {layer}")
    assert_close(features.pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)


@SIDES
def test_gradients_are_transformers(tmp_path: Path, side: int) -> None:
    network = saved(tmp_path)
    ours = SigLIPEncoder(pretrained=tmp_path, layers=[-2], image_size=side)
    images = some_images(side)
    weights = torch.randn(2, ours.num_tokens, 32)
    torch.autograd.backward((ours(images).levels[0] * weights).sum())
    state = theirs(network, ours, images).hidden_states[-2]
    torch.autograd.backward((state * weights).sum())
    expected = dict(network.named_parameters())
    names = {name for name, _ in ours.network.named_parameters()}
    assert names == {name for name, weight in expected.items() if weight.grad is not None}
    for name, weight in ours.network.named_parameters():
        assert weight.grad is not None
        assert_close(weight.grad, expected[name].grad, atol=1e-4, rtol=1e-4, msg=name)


@SIDES
@torch.no_grad()
def test_the_last_layer_after_the_norm_is_what_paligemma_reads(tmp_path: Path, side: int) -> None:
    network = saved(tmp_path)
    ours = SigLIPEncoder(pretrained=tmp_path, layers=[-1], image_size=side, norm=True)
    images = some_images(side)
    expected = theirs(network, ours, images).last_hidden_state
    assert_close(ours(images).levels[0], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_at_their_own_size_positions_are_not_interpolated(tmp_path: Path) -> None:
    network = saved(tmp_path)
    ours = SigLIPEncoder(pretrained=tmp_path, layers=[-1], norm=True)
    images = some_images(SIDE)
    plain = network(ours.preprocess(images)).last_hidden_state
    assert_close(ours(images).levels[0], plain, atol=1e-5, rtol=1e-5)


PARTS = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
HEAD = {
    "proj": "attention.out_proj",
    "norm": "layernorm",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def from_timm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename timm's SigLIP, the form that OpenCLIP has it in, to transformers' names."""
    renamed = {
        "embeddings.position_embedding.weight": weights["pos_embed"][0],
        "head.probe": weights["attn_pool.latent"],
    }
    for kind in ("weight", "bias"):
        renamed[f"embeddings.patch_embedding.{kind}"] = weights[f"patch_embed.proj.{kind}"]
        renamed[f"post_layernorm.{kind}"] = weights[f"norm.{kind}"]
        for layer in range(DEPTH):
            ours, theirs = f"encoder.layers.{layer}", f"blocks.{layer}"
            for old, new in PARTS.items():
                renamed[f"{ours}.{new}.{kind}"] = weights[f"{theirs}.{old}.{kind}"]
            parts = weights[f"{theirs}.attn.qkv.{kind}"].chunk(3)
            for which, part in zip("qkv", parts, strict=True):
                renamed[f"{ours}.self_attn.{which}_proj.{kind}"] = part
        for old, new in HEAD.items():
            renamed[f"head.{new}.{kind}"] = weights[f"attn_pool.{old}.{kind}"]
        joined = torch.cat([weights[f"attn_pool.{part}.{kind}"] for part in ("q", "kv")])
        renamed[f"head.attention.in_proj_{kind}"] = joined
    return renamed


@torch.no_grad()
def test_every_layer_and_the_pooled_output_are_timms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"embed_dim": 32, "depth": DEPTH, "num_heads": 2, "patch_size": 8}
    network: Any = timm.create_model(
        "vit_base_patch16_siglip_224", img_size=SIDE, act_layer="gelu_tanh", **sizes
    ).eval()
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.2)
    save_file(
        {k: v.contiguous() for k, v in from_timm(network.state_dict()).items()},
        tmp_path / "siglip.safetensors",
    )
    layers = range(1, DEPTH + 1)
    file = tmp_path / "siglip.safetensors"
    ours = SigLIPEncoder(sizes, file, layers=layers, pool=True)
    normed = SigLIPEncoder(sizes, file, layers=[-1], norm=True)
    assert ours.image_size == (SIDE, SIDE)

    images = some_images(SIDE)
    pixels = ours.preprocess(images)
    features = ours(images)
    last, states = network.forward_intermediates(pixels, output_fmt="NLC", norm=False)
    for layer, level, state in zip(layers, features.levels, states, strict=True):
        assert_close(level, state, atol=1e-5, rtol=1e-5, msg=f"layer {layer}")
    assert_close(normed(images).levels[0], last, atol=1e-5, rtol=1e-5)
    pooled = network.forward_head(last, pre_logits=True)
    assert_close(features.pooled, pooled, atol=1e-5, rtol=1e-5)
