"""DINOv2Encoder against transformers' and Meta's own forward passes.

Meta's code is compared with where a clone of facebookresearch/dinov2 is: in the folder that
LIT_VLM_DINOV2_CLONE names, or where ``torch.hub`` keeps its own. LIT_VLM_DINOV2_WEIGHTS may name a
folder of ViT-S/14: transformers' files beside Meta's ``dinov2_vits14.pth``.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

from lit_vlm.encoders import DINOv2Encoder
from lit_vlm.testing import check_encoder

DEPTH, SIDE = 3, 56
SIDES = pytest.mark.parametrize("side", [SIDE, 84, 42])
NAMES = pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg", "dinov2_vitg14"])


def saved(folder: Path, name: str) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 14,
        "use_swiglu_ffn": "vitg" in name,
    }
    network: Any = (
        Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes))
        if name.endswith("_reg")
        else Dinov2Model(Dinov2Config(**sizes))
    )
    shake(network)
    network.save_pretrained(folder)
    return network.train()


@torch.no_grad()
def shake(network: Any) -> None:
    for parameter in network.parameters():  # initial norms are 1 and biases 0: hide no mistake
        parameter.add_(torch.randn_like(parameter), alpha=0.2)


def some_images(side: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)


@NAMES
@SIDES
@torch.no_grad()
def test_every_layer_and_the_pooled_output_are_transformers(
    tmp_path: Path, name: str, side: int
) -> None:
    network = saved(tmp_path, name)
    layers = range(DEPTH + 1)
    ours = DINOv2Encoder(name, pretrained=tmp_path, layers=layers, image_size=side, pool=True)
    images = some_images(side)
    features = ours(images)
    expected = network(ours.preprocess(images), output_hidden_states=True)
    prefix = 5 if name.endswith("_reg") else 1
    assert len(expected.hidden_states) == DEPTH + 1
    for layer, level, state in zip(layers, features.levels, expected.hidden_states, strict=True):
        assert_close(level, state[:, prefix:], atol=1e-5, rtol=1e-5, msg=f"layer {layer}")
    assert_close(features.pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)
    normed = DINOv2Encoder(name, pretrained=tmp_path, image_size=side, norm=True)
    last = expected.last_hidden_state[:, prefix:]
    assert_close(normed(images).levels[0], last, atol=1e-5, rtol=1e-5)


@NAMES
@SIDES
def test_gradients_are_transformers(tmp_path: Path, name: str, side: int) -> None:
    network = saved(tmp_path, name)
    ours = DINOv2Encoder(name, pretrained=tmp_path, layers=[-2], image_size=side)
    images = some_images(side)
    weights = torch.randn(2, ours.num_tokens, 24)
    torch.autograd.backward((ours(images).levels[0] * weights).sum())
    state = network(ours.preprocess(images), output_hidden_states=True).hidden_states[-2]
    patches = state[:, -ours.num_tokens :]
    torch.autograd.backward((patches * weights).sum())
    expected = dict(network.named_parameters())
    names = {name for name, _ in ours.network.named_parameters()}
    assert names == {name for name, weight in expected.items() if weight.grad is not None}
    for key, weight in ours.network.named_parameters():
        assert weight.grad is not None
        assert_close(weight.grad, expected[key].grad, atol=1e-4, rtol=1e-4, msg=key)


@pytest.fixture
def clone() -> Iterator[Path]:
    """A clone of Meta's repository; what running it leaves in Python is removed."""
    named = os.environ.get("LIT_VLM_DINOV2_CLONE")
    folder = Path(named or Path(torch.hub.get_dir(), "facebookresearch_dinov2_main"))
    if not (folder / "hubconf.py").is_file():
        pytest.skip("needs a clone of facebookresearch/dinov2, see LIT_VLM_DINOV2_CLONE")
    modules, path = set(sys.modules), list(sys.path)
    yield folder
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("dinov2", "hubconf"):
            del sys.modules[name]


def metas_own(clone: Path, name: str, side: int) -> Any:
    """Make a network by Meta's code without the encoder."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="xFormers is not available")
        network: Any = torch.hub.load(
            str(clone), name, source="local", trust_repo=True, pretrained=False, img_size=side
        )
    shake(network)
    return network.eval()


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("side", [28, 42, 70])
@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg"])
@torch.no_grad()
def test_the_hub_port_is_metas_code(
    clone: Path, tmp_path: Path, name: str, side: int, norm: bool
) -> None:
    network = metas_own(clone, name, 42)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    options: dict[str, Any] = {"repo": clone, "source": "local", "config": {"image_size": 42}}
    ours = DINOv2Encoder(
        name,
        "hub",
        tmp_path / "weights.pth",
        layers=range(13),
        image_size=side,
        norm=norm,
        pool=True,
        **options,
    )
    images = some_images(side)
    pixels = ours.preprocess(images)
    features = ours(images)
    tokens = network.prepare_tokens_with_masks(pixels)
    embedded = (network.norm(tokens) if norm else tokens)[:, 1 + network.num_register_tokens :]
    states = network.get_intermediate_layers(pixels, n=12, norm=norm)
    for level, state in zip(features.levels, [embedded, *states], strict=True):
        assert_close(level, state, atol=1e-5, rtol=1e-5)
    assert_close(features.pooled, network(pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg"])
def test_contract_of_the_hub_port(clone: Path, name: str) -> None:
    options: dict[str, Any] = {"repo": clone, "source": "local", "image_size": 28}
    for reading in ({"layers": [-2]}, {"layers": [0, -1], "norm": True}, {"pool": True}):
        check_encoder(DINOv2Encoder(name, "hub", **options, **dict[str, Any](reading)))


def three_ports(
    clone: Path, name: str, weights: Path, learned_at: int, side: int
) -> tuple[DINOv2Encoder, DINOv2Encoder, DINOv2Encoder]:
    options: dict[str, Any] = {"layers": range(13), "image_size": side}
    sizes = {} if learned_at == 518 else {"image_size": learned_at}
    return (
        DINOv2Encoder(
            name, "hub", weights, config=sizes, repo=clone, source="local", **options
        ).eval(),
        DINOv2Encoder(name, "transformers", weights, **options).eval(),
        DINOv2Encoder(name, "timm", weights, **options).eval(),
    )


@torch.no_grad()
def greatest_difference(one: DINOv2Encoder, other: DINOv2Encoder, images: Tensor) -> float:
    """Return the greatest of the differences of the levels, in deviations of the level."""
    pairs = zip(one(images).levels, other(images).levels, strict=True)
    return max(float((mine - theirs).abs().max() / theirs.std()) for mine, theirs in pairs)


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg"])
def test_the_ports_agree_with_meta_at_the_size_of_the_positions(
    clone: Path, tmp_path: Path, name: str
) -> None:
    torch.save(metas_own(clone, name, 42).state_dict(), tmp_path / "weights.pth")
    hub, by_transformers, by_timm = three_ports(clone, name, tmp_path / "weights.pth", 42, 42)
    images = some_images(42)
    assert greatest_difference(by_transformers, hub, images) < 1e-5
    assert greatest_difference(by_timm, hub, images) < 1e-5


def test_with_registers_the_ports_agree_with_meta_at_any_size(clone: Path, tmp_path: Path) -> None:
    name = "dinov2_vits14_reg"
    torch.save(metas_own(clone, name, 70).state_dict(), tmp_path / "weights.pth")
    for side in (42, 98):
        hub, by_transformers, by_timm = three_ports(clone, name, tmp_path / "weights.pth", 70, side)
        images = some_images(side)
        assert greatest_difference(by_transformers, hub, images) < 1e-5
        assert greatest_difference(by_timm, hub, images) < 1e-5


def test_without_registers_the_ports_differ_from_meta_at_another_size(
    clone: Path, tmp_path: Path
) -> None:
    name = "dinov2_vits14"
    torch.save(metas_own(clone, name, 70).state_dict(), tmp_path / "weights.pth")
    hub, by_transformers, by_timm = three_ports(clone, name, tmp_path / "weights.pth", 70, 42)
    images = some_images(42)
    assert greatest_difference(by_transformers, hub, images) > 1e-3
    assert greatest_difference(by_timm, hub, images) > 1e-3
    assert greatest_difference(by_timm, by_transformers, images) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg"])
def test_the_ports_agree_with_meta_at_full_size(clone: Path, tmp_path: Path, name: str) -> None:
    torch.save(metas_own(clone, name, 518).state_dict(), tmp_path / "weights.pth")
    hub, by_transformers, by_timm = three_ports(clone, name, tmp_path / "weights.pth", 518, 518)
    images = some_images(518)[:1]
    assert greatest_difference(by_transformers, hub, images) < 1e-5
    assert greatest_difference(by_timm, hub, images) < 1e-5


@pytest.fixture
def published() -> Path:
    folder = Path(os.environ.get("LIT_VLM_DINOV2_WEIGHTS", ""))
    if not (folder / "dinov2_vits14.pth").is_file():
        pytest.skip("needs a folder of DINOv2's weights, see LIT_VLM_DINOV2_WEIGHTS")
    return folder


@pytest.mark.slow
def test_published_weights_agree_at_518_pixels(clone: Path, published: Path) -> None:
    file = published / "dinov2_vits14.pth"
    images = smooth_image(518)
    hub, *ports = three_ports(clone, "dinov2_vits14", file, 518, 518)
    ports.append(DINOv2Encoder(pretrained=published, layers=range(13)).eval())
    for port in ports:
        assert greatest_difference(port, hub, images) < 1e-5


@pytest.mark.slow
def test_published_weights_differ_by_some_percent_at_224_pixels(
    clone: Path, published: Path
) -> None:
    file = published / "dinov2_vits14.pth"
    images = smooth_image(224)
    hub, by_transformers, by_timm = three_ports(clone, "dinov2_vits14", file, 518, 224)
    assert 0.01 < relative_difference(by_transformers, hub, images) < 0.03
    assert 0.05 < relative_difference(by_timm, hub, images) < 0.1
    assert 0.05 < relative_difference(by_timm, by_transformers, images) < 0.1


@torch.no_grad()
def relative_difference(one: DINOv2Encoder, other: DINOv2Encoder, images: Tensor) -> float:
    """Return the greatest length of a level's difference, in lengths of the level."""
    pairs = zip(one(images).levels, other(images).levels, strict=True)
    return max(float((mine - theirs).norm() / theirs.norm()) for mine, theirs in pairs)


def smooth_image(side: int) -> Tensor:
    """Return a picture with large shapes: noise is nothing that the network has learned."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, 8, 8)
    picture = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return (picture.clamp(0, 1) * 255).to(torch.uint8)
