"""CLIPEncoder with OpenCLIP's weights, against OpenCLIP's own forward pass."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_vlm.encoders import CLIPEncoder

open_clip: Any = pytest.importorskip("open_clip", reason="needs open_clip_torch to compare with")

DEPTH, SIDE = 3, 32
SIZES: dict[str, Any] = {"embed_dim": 32, "depth": DEPTH, "num_heads": 2, "patch_size": 8}
TEXT = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}


def whole_model(quick_gelu: bool) -> Any:
    torch.manual_seed(0)
    vision = {"image_size": SIDE, "layers": DEPTH, "width": 32, "head_width": 16, "patch_size": 8}
    model = open_clip.CLIP(24, vision, TEXT, quick_gelu=quick_gelu).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # initial norms are 1 and biases 0: hide no mistake
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def some_images(side: int = SIDE) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)


@pytest.mark.parametrize("tower_only", [False, True])
@pytest.mark.parametrize(("quick_gelu", "act"), [(True, "quick_gelu"), (False, "gelu")])
@torch.no_grad()
def test_every_layer_and_the_pooled_output_are_open_clips(
    tmp_path: Path, quick_gelu: bool, act: str, tower_only: bool
) -> None:
    model = whole_model(quick_gelu)
    tower = model.visual
    file = tmp_path / "open_clip_pytorch_model.bin"
    torch.save((tower if tower_only else model).state_dict(), file)
    layers = range(DEPTH + 1)
    ours = CLIPEncoder({**SIZES, "hidden_act": act}, file, layers=layers, pool=True)
    assert ours.image_size == (SIDE, SIDE)

    images = some_images()
    pixels = ours.preprocess(images)
    features = ours(images)
    embeddings = tower._embeds(pixels)
    states = tower.forward_intermediates(pixels, output_fmt="NLC")["image_intermediates"]
    for layer, level, state in zip(
        layers, features.levels, [embeddings[:, 1:], *states], strict=True
    ):
        assert_close(level, state, atol=1e-5, rtol=1e-5, msg=f"layer {layer}")
    pooled, _ = tower._pool(tower.transformer(embeddings))  # before the projection
    assert_close(features.pooled, pooled, atol=1e-5, rtol=1e-5)
    assert features.pooled is not None
    assert_close(features.pooled @ tower.proj, model.encode_image(pixels), atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_the_norm_is_open_clips_ln_post(tmp_path: Path) -> None:
    model = whole_model(quick_gelu=True)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    ours = CLIPEncoder(
        {**SIZES, "hidden_act": "quick_gelu"},
        tmp_path / "model.pt",
        layers=range(1, DEPTH + 1),
        norm=True,
    )
    images = some_images()
    states = model.visual.forward_intermediates(
        ours.preprocess(images), output_fmt="NLC", normalize_intermediates=True
    )["image_intermediates"]
    for level, state in zip(ours(images).levels, states, strict=True):
        assert_close(level, state, atol=1e-5, rtol=1e-5)


def test_bigg_has_open_clips_shapes() -> None:
    config = open_clip.get_model_config("ViT-bigG-14")
    vision = config["vision_cfg"]
    heads = vision["width"] // vision["head_width"]
    sizes = {
        "embed_dim": vision["width"],
        "depth": vision["layers"],
        "num_heads": heads,
        "mlp_ratio": vision["mlp_ratio"],
        "patch_size": vision["patch_size"],
    }
    with torch.device("meta"):
        ours: Any = CLIPEncoder(sizes, layers=[-1], image_size=vision["image_size"], pool=True)
        theirs = open_clip.transformer.VisionTransformer(
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            width=vision["width"],
            layers=vision["layers"],
            heads=heads,
            mlp_ratio=vision["mlp_ratio"],
            output_dim=config["embed_dim"],
        )
    assert (heads, ours.blocks[0].mlp.fc1.out_features) == (16, 8192)
    theirs_count = sum(p.numel() for p in theirs.parameters()) - theirs.proj.numel()
    assert sum(p.numel() for p in ours.parameters()) == theirs_count
    assert theirs_count == pytest.approx(1.84e9, rel=0.01)
