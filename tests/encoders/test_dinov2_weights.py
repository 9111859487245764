import re
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from lit_vlm.encoders.dinov2_weights import from_hub


def of_the_hub(giant: bool = False, registers: bool = False) -> dict[str, Tensor]:
    """A state dict with the names of facebookresearch/dinov2's DinoVisionTransformer."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 8),
        "pos_embed": (1, 1 + 4, 8),
        "mask_token": (1, 8),
        "patch_embed.proj.weight": (8, 3, 14, 14),
        "patch_embed.proj.bias": (8,),
        "norm.weight": (8,),
        "norm.bias": (8,),
    }
    if registers:
        shapes["register_tokens"] = (1, 4, 8)
    mlp = {"mlp.w12": (48, 8), "mlp.w3": (8, 24)} if giant else {"mlp.fc1": (32, 8)}
    mlp |= {} if giant else {"mlp.fc2": (8, 32)}
    for block in ("blocks.0", "blocks.1"):
        linear = {"attn.qkv": (24, 8), "attn.proj": (8, 8), **mlp}
        for name, shape in linear.items():
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
        for name in ("norm1", "norm2"):
            shapes |= {f"{block}.{name}.weight": (8,), f"{block}.{name}.bias": (8,)}
        shapes |= {f"{block}.ls1.gamma": (8,), f"{block}.ls2.gamma": (8,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("hub", "transformers"),
    [
        ("cls_token", "embeddings.cls_token"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("register_tokens", "embeddings.register_tokens"),
        ("patch_embed.proj.bias", "embeddings.patch_embeddings.projection.bias"),
        ("blocks.1.norm1.weight", "encoder.layer.1.norm1.weight"),
        ("blocks.1.attn.proj.bias", "encoder.layer.1.attention.output.dense.bias"),
        ("blocks.0.ls1.gamma", "encoder.layer.0.layer_scale1.lambda1"),
        ("blocks.0.ls2.gamma", "encoder.layer.0.layer_scale2.lambda1"),
        ("blocks.0.mlp.w12.weight", "encoder.layer.0.mlp.weights_in.weight"),
        ("blocks.0.mlp.w3.bias", "encoder.layer.0.mlp.weights_out.bias"),
        ("norm.weight", "layernorm.weight"),
    ],
)
def test_names_are_those_of_the_published_checkpoints(hub: str, transformers: str) -> None:
    state = of_the_hub(giant=True, registers=True)
    assert torch.equal(from_hub(state)[transformers], state[hub])


@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_query_key_and_value_are_parted(kind: str) -> None:
    state = of_the_hub()
    renamed = from_hub(state)
    for index, part in enumerate(("query", "key", "value")):
        name = f"encoder.layer.1.attention.attention.{part}.{kind}"
        expected = state[f"blocks.1.attn.qkv.{kind}"][8 * index : 8 * index + 8]
        assert torch.equal(renamed[name], expected)
    assert len(renamed) == len(state) + 2 * 2 * 2  # two more of each weight and bias
    assert not any(re.match(r"blocks|attn", name) for name in renamed)


def test_nothing_is_missing_or_left_over() -> None:
    config = Dinov2Config(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    model_class: Any = Dinov2Model
    _, report = model_class.from_pretrained(
        None, config=config, state_dict=from_hub(of_the_hub()), output_loading_info=True
    )
    assert not any(report.values())


def test_leaves_other_names_alone() -> None:
    state = {"encoder.layer.0.norm1.weight": torch.ones(2)}
    assert from_hub(state) is state
