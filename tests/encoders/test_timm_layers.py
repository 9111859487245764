import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_vlm.encoders import TimmEncoder
from lit_vlm.encoders.timm_layers import LayerMap

VIT: dict[str, Any] = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
HALF = (0.5, 0.5, 0.5)
IMAGES = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)

COMPILE = """
import torch
from lit_vlm.encoders import TimmEncoder

VIT = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
SWIN = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1), "window_size": 2}
FAMILIES = {
    "vit_tiny_patch16_224": VIT,
    "vit_small_patch14_reg4_dinov2": VIT,
    "vit_small_patch16_dinov3": VIT,
    "swin_tiny_patch4_window7_224": SWIN,
    "test_resnet": {},
    "test_efficientnet": {},
}
for name, config in FAMILIES.items():
    for layers, pool in (([0], False), ([1, 0, -1], True)):
        torch._dynamo.reset()
        encoder = TimmEncoder(
            name, layers=layers, image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3,
            config=config, pool=pool,
        ).eval()
        images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
        compiled = torch.compile(encoder, backend="aot_eager", fullgraph=True)
        for _ in range(2):
            features, expected = compiled(images), encoder(images)
            for level, other in zip(features.levels, expected.levels, strict=True):
                torch.testing.assert_close(level, other)
        features.levels[0].sum().backward()
"""


def encoder(*layers: int, **others: Any) -> TimmEncoder:
    return TimmEncoder(
        "vit_tiny_patch16_224",
        layers=layers,
        image_size=16,
        mean=HALF,
        std=HALF,
        config=VIT,
        **others,
    ).eval()


@pytest.mark.slow
def test_compiles_into_one_graph() -> None:
    # The types that are checked in this session would break the graph.
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("layers", [[0], [1, 0]], ids=str)
@pytest.mark.parametrize("way", ["copied", "pickled"])
def test_layer_0_is_read_from_a_copy_too(layers: list[int], way: str) -> None:
    original = encoder(*layers, gradient_checkpointing=True)
    original.train()(IMAGES).levels[0].sum().backward()
    original.eval()
    again = copy.deepcopy(original) if way == "copied" else pickle.loads(pickle.dumps(original))
    with torch.no_grad():
        for weight in again.parameters():
            weight.mul_(2)
        doubled = again(IMAGES).levels
        assert all(
            not torch.equal(a, b) for a, b in zip(doubled, original(IMAGES).levels, strict=True)
        )
        again.load_state_dict(original.state_dict())
        for level, expected in zip(again(IMAGES).levels, original(IMAGES).levels, strict=True):
            assert torch.equal(level, expected)


def test_keeps_nothing_of_what_entered() -> None:
    network = encoder(0, 1, gradient_checkpointing=True)
    network.train()(IMAGES).levels[0].sum().backward()
    entry = network._map.entry
    assert entry is not None
    assert entry.take() is None


def test_weights_have_timms_names() -> None:
    plain = timm.create_model("vit_tiny_patch16_224", img_size=16, num_classes=0, **VIT)
    assert set(encoder(0, 1, pool=True).network.state_dict()) == set(plain.state_dict())
    assert set(encoder(0, 1).network.state_dict()) < set(plain.state_dict())


@pytest.mark.parametrize(
    ("name", "config", "layers", "first"),
    [
        ("vit_tiny_patch16_224", VIT, (0, 1, 2), 1),
        ("test_resnet", {}, (0, 1, 4), 0),
        ("test_convnext", {}, (0, 1, 4), 1),
        ("test_efficientnet", {}, (0, 1, 5), 1),
        ("vgg11", {"mlp_ratio": 0.01}, (1, 2, 6), 1),
    ],
)
def test_layers_count_from_the_stem_or_the_embeddings(
    name: str, config: dict[str, Any], layers: tuple[int, ...], first: int
) -> None:
    network = timm.create_model(name, num_classes=0, **config)
    layer_map = LayerMap.of(network, name, [*layers[:2], -1])
    assert layer_map.layers == layers
    assert layer_map.first == first


def test_counts_prefix_tokens_by_what_enters() -> None:
    # CaiT's class token joins in its last blocks, so none is before the patches.
    config = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
    network = TimmEncoder(
        "cait_xxs24_224", layers=[0, -1], image_size=16, mean=HALF, std=HALF, config=config
    )
    assert network.grid == (2, 2)


def test_refuses_layer_0_where_the_embeddings_are_no_map() -> None:
    with pytest.raises(ValueError, match="1 or higher for .*, whose embeddings are no map"):
        TimmEncoder("pit_ti_224", layers=[0], image_size=64, mean=HALF, std=HALF)


def test_refuses_a_network_without_intermediate_layers() -> None:
    class Opaque(torch.nn.Module):
        feature_info: tuple[Tensor, ...] = ()

    with pytest.raises(ValueError, match="timm offers no intermediate layers of opaque"):
        LayerMap.of(Opaque(), "opaque", [-1])


def test_gives_the_last_output_only_if_all_is_run() -> None:
    network: Any = timm.create_model("test_resnet", num_classes=0).eval()
    layer_map = LayerMap.of(network, "test_resnet", [1])
    pixels = torch.randn(1, 3, 32, 32)
    nothing, (level,) = layer_map.read(network, pixels, run_all=False)
    final, (same,) = layer_map.read(network, pixels, run_all=True)
    assert nothing is None
    assert_close(final, network.forward_features(pixels))
    assert_close(level, same)
