import sys
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import pytest
import timm
import torch
from lightning.pytorch.cli import instantiate_module
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torch.testing import assert_close

from lit_vlm.encoders import DINOv2Encoder
from lit_vlm.encoders.dinov2_ports import ENTRY_POINTS
from lit_vlm.testing import check_encoder

DEPTH, SIDE, OTHER = 3, 56, 42
SIZES: dict[str, Any] = {"embed_dim": 24, "depth": DEPTH, "num_heads": 2}
LAYERS = range(DEPTH + 1)
KINDS = pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg", "dinov2_vitg14_reg"])
OwnPort = Literal["transformers", "timm"]
PORTS = pytest.mark.parametrize("port", ["transformers", "timm"])


def some_images(side: int = SIDE) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)


def saved(folder: Path, name: str) -> Path:
    """Save random weights under the names that torch.hub gives them."""
    torch.manual_seed(0)
    words = {"s": "small", "g": "giant"}
    registers = name.endswith("_reg")
    network: Any = timm.create_model(
        f"vit_{words[name[10]]}_patch14_{'reg4_' if registers else ''}dinov2",
        img_size=SIDE,
        num_classes=0,
        **SIZES,
    )
    with torch.no_grad():
        for parameter in network.parameters():  # initial norms are 1 and biases 0: hide no mistake
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    state = dict(network.state_dict()) | {"mask_token": torch.zeros(1, 24)}
    if "_vitg" in name:
        parts = {"mlp.fc1": "mlp.w12", "mlp.fc2": "mlp.w3"}
        for old, new in parts.items():
            state = {key.replace(old, new): value for key, value in state.items()}
    if registers:  # timm adds the position of the class token to the token itself
        own = torch.randn(1, 1, 24)
        state["register_tokens"] = state.pop("reg_token")
        state["cls_token"] = state["cls_token"] - own
        state["pos_embed"] = torch.cat([own, state["pos_embed"]], dim=1)
    path = folder / f"{name}.pth"
    torch.save(state, path)
    return path


@torch.no_grad()
def levels(encoder: DINOv2Encoder, images: Tensor) -> tuple[Tensor, ...]:
    return encoder(images).levels


@KINDS
@PORTS
@pytest.mark.parametrize("layers", [[-2], [0], [3, 0, 1]], ids=str)
@pytest.mark.parametrize("norm", [False, True])
def test_contract_of_every_kind(name: str, port: OwnPort, layers: list[int], norm: bool) -> None:
    network = DINOv2Encoder(name, port, config=SIZES, layers=layers, image_size=28, norm=norm)
    check_encoder(network)


@KINDS
@PORTS
def test_contract_at_another_size_and_with_the_pooled_output(
    tmp_path: Path, name: str, port: OwnPort
) -> None:
    weights = saved(tmp_path, name)
    network = DINOv2Encoder(
        name, port, weights, SIZES, layers=[-2], image_size=OTHER, norm=True, pool=True
    )
    assert network.grid == (3, 3)
    check_encoder(network)


@KINDS
def test_the_ports_agree_at_the_size_of_the_positions(tmp_path: Path, name: str) -> None:
    weights = saved(tmp_path, name)
    options: dict[str, Any] = {"layers": LAYERS, "pool": True, "image_size": SIDE}
    by_transformers = DINOv2Encoder(name, "transformers", weights, SIZES, **options)
    by_timm = DINOv2Encoder(name, "timm", weights, SIZES, **options)
    images = some_images()
    pairs = zip(levels(by_transformers, images), levels(by_timm, images), strict=True)
    for layer, (one, other) in enumerate(pairs):
        assert one.std() > 0.1, "the features must say something"
        assert_close(one, other, atol=1e-5, rtol=1e-5, msg=f"layer {layer}")
    assert_close(by_transformers(images).pooled, by_timm(images).pooled, atol=1e-5, rtol=1e-5)


def test_the_ports_differ_at_another_size(tmp_path: Path) -> None:
    weights = saved(tmp_path, "dinov2_vits14")
    one, other = (
        DINOv2Encoder("dinov2_vits14", port, weights, SIZES, layers=LAYERS, image_size=OTHER)
        for port in ("transformers", "timm")
    )
    images = some_images(OTHER)
    for mine, theirs in zip(levels(one, images), levels(other, images), strict=True):
        assert (mine - theirs).abs().max() > 1e-3


@PORTS
def test_the_side_of_the_positions_is_read_from_the_weights(tmp_path: Path, port: OwnPort) -> None:
    weights = saved(tmp_path, "dinov2_vits14")
    network = DINOv2Encoder("dinov2_vits14", port, weights, SIZES, image_size=OTHER)
    assert network.image_size == (OTHER, OTHER)
    if port == "transformers":
        table = network.network.embeddings.position_embeddings
        assert table.shape == (1, 1 + (SIDE // 14) ** 2, 24)


@KINDS
@PORTS
def test_pooled_is_the_class_token_after_the_norm(tmp_path: Path, name: str, port: OwnPort) -> None:
    weights = saved(tmp_path, name)
    network = DINOv2Encoder(name, port, weights, SIZES, image_size=SIDE, pool=True)
    images = some_images()
    with torch.no_grad():
        tokens = network.embed(network.preprocess(images))
        for block in network.blocks:
            tokens = block(tokens)
        expected = network.network.get_submodule(network._final_norm)(tokens)[:, 0]
        assert_close(network(images).pooled, expected)
        assert network(images).levels[0].shape == (2, 16, 24)
    assert tokens.shape[1] == 16 + (5 if name.endswith("_reg") else 1)


@KINDS
@PORTS
def test_is_rebuilt_without_its_weights(tmp_path: Path, name: str, port: OwnPort) -> None:
    weights = saved(tmp_path, name)
    network = DINOv2Encoder(name, port, weights, SIZES, layers=[-2, 0], image_size=OTHER)
    weights.unlink()
    record = network.rebuild_config()
    assert record["init_args"]["pretrained"] is None
    again = instantiate_module(DINOv2Encoder, record["init_args"])
    again.load_state_dict(network.state_dict())
    assert again.rebuild_config() == record
    images = some_images()
    for level, expected in zip(levels(again, images), levels(network, images), strict=True):
        assert torch.equal(level, expected)


def test_a_folder_decides_its_own_sizes(tmp_path: Path) -> None:
    """The entry point's default says small; what is in the folder is another."""
    small = DINOv2Encoder(config={**SIZES, "num_heads": 12, "depth": 2}, image_size=28, pool=True)
    small.network.save_pretrained(tmp_path)
    network = DINOv2Encoder(pretrained=tmp_path, layers=[-1])
    assert network.network.config.num_attention_heads == 12
    again = instantiate_module(DINOv2Encoder, network.rebuild_config()["init_args"])
    again.load_state_dict(network.state_dict())
    images = some_images(28)
    assert torch.equal(levels(again, images)[0], levels(network, images)[0])
    assert torch.equal(levels(small, images)[0], levels(network, images)[0])


@pytest.mark.parametrize("port", ["transformers", "timm"])
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_every_entry_point_has_its_published_shape(name: str, port: OwnPort) -> None:
    width, depth, heads = {
        "s": (384, 12, 6),
        "b": (768, 12, 12),
        "l": (1024, 24, 16),
        "g": (1536, 40, 24),
    }[name[10]]
    with torch.device("meta"):
        network = DINOv2Encoder(name, port, pool=True)
    assert (network.image_size, network.grid, network.dims) == ((518, 518), (37, 37), (width,))
    assert len(network.blocks) == depth
    found = [m.num_heads for m in network.network.modules() if hasattr(m, "num_heads")]
    found += [network.network.config.num_attention_heads] if port == "transformers" else []
    assert set(found) == {heads}
    inner = {
        module.in_features
        for module in network.blocks[0].modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert max(inner) == (4096 if "_vitg" in name else 4 * width)
    assert network._num_prefix == (5 if name.endswith("_reg") else 1)


@PORTS
def test_normalises_as_imagenet(port: OwnPort) -> None:
    network = DINOv2Encoder(port=port, config=SIZES, image_size=28)
    assert network.mean.flatten().tolist() == pytest.approx(IMAGENET_DEFAULT_MEAN)
    assert network.std.flatten().tolist() == pytest.approx(IMAGENET_DEFAULT_STD)


@PORTS
def test_config_may_say_the_side_of_the_positions(port: OwnPort) -> None:
    network = DINOv2Encoder(port=port, config={**SIZES, "image_size": 42})
    assert (network.image_size, network.grid) == ((42, 42), (3, 3))


def test_says_which_entry_points_are_near() -> None:
    message = "one of torch.hub's backbones, got 'dinov2_vits16'. Did you mean: .*dinov2_vits14"
    with pytest.raises(ValueError, match=message):
        DINOv2Encoder("dinov2_vits16")


@pytest.mark.parametrize(
    ("port", "message"),
    [
        ("transformers", "DINOv2Encoder: config must have fields of Dinov2Config, got 'depht'"),
        ("timm", "DINOv2Encoder: config does not fit vit_small_patch14_dinov2: .*'depht'"),
        ("hub", r"DINOv2Encoder: config must be left out for port='hub', .* got \{'depht': 3\}"),
    ],
)
def test_refuses_a_config_that_the_port_does_not_take(
    port: Literal["transformers", "timm", "hub"], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DINOv2Encoder(port=port, config={"depht": 3}, image_size=28)


@pytest.mark.parametrize(
    ("port", "message"),
    [
        ("transformers", "the weights '.*pth' must fit the sizes in config, but .* tensors do not"),
        ("timm", "the weights '.*pth' and config=.* must fit vit_small_patch14_dinov2"),
    ],
)
def test_refuses_weights_of_another_size(tmp_path: Path, port: OwnPort, message: str) -> None:
    weights = saved(tmp_path, "dinov2_vits14")
    with pytest.raises(ValueError, match=f"DINOv2Encoder: {message}"):
        DINOv2Encoder("dinov2_vits14", port, weights, {**SIZES, "embed_dim": 48}, image_size=SIDE)


@PORTS
def test_refuses_weights_without_registers_for_a_network_that_has_them(
    tmp_path: Path, port: OwnPort
) -> None:
    weights = saved(tmp_path, "dinov2_vits14")
    with pytest.raises(ValueError, match=r"DINOv2Encoder: the weights '.*pth' .*reg"):
        DINOv2Encoder("dinov2_vits14_reg", port, weights, SIZES, image_size=SIDE)


@pytest.mark.parametrize(
    ("port", "message"),
    [
        ("transformers", "must have a place for all .*pth', got none for 1 .*register_tokens"),
        ("timm", "the weights '.*pth' and config=.* must fit vit_small_patch14_dinov2"),
    ],
)
def test_refuses_weights_with_registers_for_a_network_that_has_none(
    tmp_path: Path, port: OwnPort, message: str
) -> None:
    weights = saved(tmp_path, "dinov2_vits14_reg")
    with pytest.raises(ValueError, match=f"DINOv2Encoder: .*{message}"):
        DINOv2Encoder("dinov2_vits14", port, weights, SIZES, image_size=SIDE)


def test_refuses_a_folder_of_the_other_kind(tmp_path: Path) -> None:
    network = DINOv2Encoder("dinov2_vits14_reg", config=SIZES, image_size=28, pool=True)
    network.network.save_pretrained(tmp_path)
    message = r"must be of type dinov2, got .*, which is of type dinov2_with_registers"
    with pytest.raises(ValueError, match=message):
        DINOv2Encoder("dinov2_vits14", pretrained=tmp_path)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("dinov2_vitl14", "facebook/dinov2-large"),
        ("dinov2_vitb14_reg", "facebook/dinov2-with-registers-base"),
    ],
)
def test_metas_weights_are_those_on_the_hub(name: str, published: str) -> None:
    message = f"DINOv2Encoder: must find '{published}' as a file, a folder or on the hub"
    with pytest.raises(OSError, match=message):
        DINOv2Encoder(name, pretrained="hub")


# A torch.hub repository of the names that the encoder needs, in place of Meta's.
_HUBCONF = """
import torch
from torch import nn

dependencies = ["torch"]


class Tiny(nn.Module):
    def __init__(self, img_size):
        super().__init__()
        self.patch_size, self.num_register_tokens = 14, 4
        self.proj = nn.Conv2d(3, 8, 14, stride=14)
        self.cls_token = nn.Parameter(torch.randn(1, 5, 8))
        self.pos_embed = nn.Parameter(torch.randn(1, (img_size // 14) ** 2, 8))
        self.mask_token = nn.Parameter(torch.zeros(1, 8))
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.norm = nn.LayerNorm(8)

    def prepare_tokens_with_masks(self, x, masks=None):
        tokens = self.proj(x).flatten(2).mT + self.pos_embed
        return torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1)


def dinov2_vits14_reg(*, pretrained=True, img_size=518):
    if pretrained:
        raise RuntimeError("no weights here")
    return Tiny(img_size)
"""


@pytest.fixture
def clone(tmp_path: Path) -> Any:
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "hubconf.py").write_text(_HUBCONF)
    modules, path = set(sys.modules), list(sys.path)
    yield folder
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def by_hub(clone: Path, **options: Any) -> DINOv2Encoder:
    return DINOv2Encoder("dinov2_vits14_reg", "hub", repo=clone, source="local", **options)


def test_runs_the_code_of_a_clone(clone: Path) -> None:
    network = by_hub(clone, config={"image_size": 42}, layers=[-2, 0])
    assert (network.grid, network.dims) == ((3, 3), (8, 8))
    check_encoder(network)
    check_encoder(by_hub(clone, config={"image_size": 28}, norm=True, pool=True))


def test_weights_for_a_clone_are_read_and_rebuilt(clone: Path, tmp_path: Path) -> None:
    first = by_hub(clone, config={"image_size": 28}, pool=True)
    state = dict(first.network.state_dict()) | {"mask_token": torch.zeros(1, 8)}
    torch.save(state, tmp_path / "weights.pth")
    options: dict[str, Any] = {"config": {"image_size": 28}, "layers": [-2]}
    network = by_hub(clone, pretrained=tmp_path / "weights.pth", **options)
    (tmp_path / "weights.pth").unlink()
    record = network.rebuild_config()
    again = instantiate_module(DINOv2Encoder, record["init_args"])
    again.load_state_dict(network.state_dict())
    assert again.rebuild_config() == record
    images = some_images(28)
    assert torch.equal(levels(again, images)[0], levels(network, images)[0])


def test_refuses_other_weights_for_a_clone(clone: Path, tmp_path: Path) -> None:
    torch.save({"norm.weight": torch.ones(8)}, tmp_path / "weights.pth")
    message = "weights '.*weights.pth' must be those of torch.hub's dinov2_vits14_reg, but: .*proj"
    with pytest.raises(ValueError, match=r"(?s)" + message):
        by_hub(clone, pretrained=tmp_path / "weights.pth", config={"image_size": 28})


def test_refuses_a_folder_that_is_no_clone(tmp_path: Path) -> None:
    message = "repo must be a clone of facebookresearch/dinov2 with a hubconf.py .* got .*Clone it"
    with pytest.raises(OSError, match=message):
        by_hub(tmp_path)


def test_says_what_to_do_if_the_clones_code_fails(clone: Path) -> None:
    message = "torch.hub must find dinov2_vits14_reg in .*RuntimeError: no weights here. Run once"
    with pytest.raises(OSError, match=message):
        by_hub(clone, pretrained="hub")
    with pytest.raises(
        OSError, match="torch.hub must find dinov2_vitb14 in .*RuntimeError: Cannot"
    ):
        DINOv2Encoder("dinov2_vitb14", "hub", repo=clone, source="local")


def test_says_what_to_do_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    message = "torch.hub must find dinov2_vits14 in facebookresearch/dinov2, got .*source='local'"
    with pytest.raises(OSError, match=message):
        DINOv2Encoder(port="hub")
