from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_vlm.encoders import CLIPEncoder
from lit_vlm.encoders.open_clip_weights import from_open_clip

SIZES: dict[str, Any] = {"embed_dim": 8, "depth": 2, "num_heads": 2, "patch_size": 4}


def tower() -> dict[str, Tensor]:
    """A state dict with the names of open_clip.transformer.VisionTransformer."""
    shapes: dict[str, tuple[int, ...]] = {
        "class_embedding": (8,),
        "positional_embedding": (1 + 9, 8),
        "proj": (8, 6),
        "conv1.weight": (8, 3, 4, 4),
    }
    for norm in ("ln_pre", "ln_post"):
        shapes |= {f"{norm}.weight": (8,), f"{norm}.bias": (8,)}
    for block in ("transformer.resblocks.0", "transformer.resblocks.1"):
        shapes |= {f"{block}.attn.in_proj_weight": (24, 8), f"{block}.attn.in_proj_bias": (24,)}
        linear = {"attn.out_proj": (8, 8), "mlp.c_fc": (32, 8), "mlp.c_proj": (8, 32)}
        for name, shape in linear.items():
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{block}.{norm}.weight": (8,), f"{block}.{norm}.bias": (8,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def whole(prefix: str) -> dict[str, Tensor]:
    """The same in a model with its text tower, whose names partly coincide."""
    text = {
        "positional_embedding": torch.randn(77, 6),
        "text_projection": torch.randn(6, 6),
        "logit_scale": torch.tensor(1.0),
        "token_embedding.weight": torch.randn(50, 6),
        "transformer.resblocks.0.attn.in_proj_weight": torch.randn(18, 6),
        "ln_final.weight": torch.randn(6),
    }
    parallel = "module." if prefix.startswith("module.") else ""
    visual = {f"{prefix}{name}": value for name, value in tower().items()}
    return {f"{parallel}{name}": value for name, value in text.items()} | visual


@pytest.mark.parametrize("prefix", ["visual.", "module.visual."])
def test_takes_the_vision_tower_of_a_whole_model(prefix: str) -> None:
    torch.manual_seed(0)
    state = whole(prefix)
    renamed = from_open_clip(state)
    joined = state[f"{prefix}transformer.resblocks.1.attn.in_proj_weight"]
    for index, part in enumerate("qkv"):
        name = f"encoder.layers.1.self_attn.{part}_proj.weight"
        assert torch.equal(renamed[name], joined[8 * index : 8 * index + 8])
    table = renamed["embeddings.position_embedding.weight"]
    assert torch.equal(table, state[f"{prefix}positional_embedding"])
    assert not any("proj" == name or "text" in name for name in renamed)


@pytest.mark.parametrize("prefix", ["", "visual.", "module.visual."])
def test_names_are_exactly_those_of_the_network(tmp_path: Path, prefix: str) -> None:
    torch.manual_seed(0)
    state = whole(prefix) if prefix else tower()
    torch.save(state, tmp_path / "open_clip.pt")
    encoder = CLIPEncoder({**SIZES, "hidden_act": "gelu"}, tmp_path / "open_clip.pt", pool=True)
    assert encoder.grid == (3, 3)
    loaded = encoder.network.state_dict()
    renamed = from_open_clip(state)
    assert loaded.keys() == renamed.keys()
    for name, value in loaded.items():
        assert torch.equal(value, renamed[name]), name


def test_leaves_other_names_alone() -> None:
    state = {"vision_model.post_layernorm.weight": torch.ones(2), "logit_scale": torch.ones(())}
    assert from_open_clip(state) is state


def test_refuses_a_tower_that_lacks_a_norm(tmp_path: Path) -> None:
    state = {name: value for name, value in tower().items() if "ln_pre" not in name}
    torch.save(state, tmp_path / "open_clip.pt")
    message = "must hold all of CLIPVisionModel, got none for 2 of its tensors: pre_layrnorm.bias"
    with pytest.raises(ValueError, match=message):
        CLIPEncoder({**SIZES, "hidden_act": "gelu"}, tmp_path / "open_clip.pt")


@pytest.mark.parametrize("name", ["attn.ln_q.weight", "ls_1.gamma"])
def test_refuses_blocks_with_more_to_them(tmp_path: Path, name: str) -> None:
    state = whole("visual.") | {f"visual.transformer.resblocks.1.{name}": torch.ones(8)}
    torch.save(state, tmp_path / "open_clip.pt")
    message = rf"must be those of a plain vision transformer, got 'transformer.*{name}'"
    with pytest.raises(ValueError, match=message):
        CLIPEncoder({**SIZES, "hidden_act": "gelu"}, tmp_path / "open_clip.pt")


def test_asks_for_the_activation_that_no_file_names(tmp_path: Path) -> None:
    torch.save(tower(), tmp_path / "open_clip.pt")
    with pytest.raises(ValueError, match="config must say hidden_act for weights of OpenCLIP, got"):
        CLIPEncoder(SIZES, tmp_path / "open_clip.pt")
