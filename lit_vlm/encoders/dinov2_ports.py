"""The three implementations that DINOv2's weights run in."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor
from transformers import Dinov2Model, Dinov2WithRegistersModel

from lit_vlm.encoders.dinov2_weights import from_hub
from lit_vlm.encoders.timm_network import create_network
from lit_vlm.encoders.transformers_network import make_network, sizes_of, sizes_of_folder
from lit_vlm.errors import nearest
from lit_vlm.weights import read_weights

PUBLISHED = "hub"
"""What ``pretrained`` says to ask for Meta's own weights."""

_SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "g": (1536, 40, 24)}
_WORDS = {"s": "small", "b": "base", "l": "large", "g": "giant"}
ENTRY_POINTS = tuple(f"dinov2_vit{size}14{reg}" for reg in ("", "_reg") for size in _SIZES)
"""Names that ``torch.hub`` knows the backbones by."""

_SIDE, _PATCH = 518, 14


@dataclass(frozen=True)
class Port:
    """A DINOv2 network and where its pieces are.

    Attributes:
        network: the network, without its mask token.
        sizes: the ``config`` that makes a network of its shape.
        blocks: dotted name of its list of blocks.
        final_norm: dotted name of its last norm.
        num_prefix: number of tokens before the patches.
        image_size: side that its positions are made at, in pixels.
        patch_size: side of a patch, in pixels.
        embed: network and pixels to the tokens that enter the first block.
    """

    network: Any
    sizes: dict[str, Any]
    blocks: str
    final_norm: str
    num_prefix: int
    image_size: int
    patch_size: int
    embed: Callable[[Any, Tensor], Tensor]


def check_entry_point(name: str) -> None:
    """Raise ``ValueError`` for a name that is none of ``ENTRY_POINTS``."""
    if name not in ENTRY_POINTS:
        raise ValueError(
            f"DINOv2Encoder: entry_point must be one of torch.hub's backbones, got {name!r}."
            f"{nearest(name, ENTRY_POINTS)}"
        )


def transformers_port(
    entry_point: str,
    config: dict[str, Any],
    pretrained: str | Path | None,
    image_size: int | None,
) -> Port:
    """Make transformers' ``Dinov2Model``, or ``Dinov2WithRegistersModel``."""
    size, registers = _parse(entry_point)
    if pretrained == PUBLISHED:
        middle = "with-registers-" if registers else ""
        pretrained = f"facebook/dinov2-{middle}{_WORDS[size]}"
    from_sizes = pretrained is None or Path(pretrained).is_file()
    network = make_network(
        "DINOv2Encoder",
        Dinov2WithRegistersModel if registers else Dinov2Model,
        ("dinov2_with_registers",) if registers else ("dinov2",),
        {**_sizes(size), **config} if from_sizes or config else config,
        pretrained,
        image_size=image_size or _SIDE,
        convert=from_hub,
        unused=["embeddings.mask_token"],
    )
    network.embeddings.mask_token = None  # for pretraining only: it would never get a gradient
    return Port(
        network,
        sizes=sizes_of(network),
        blocks="encoder.layer",
        final_norm="layernorm",
        num_prefix=1 + (network.config.num_register_tokens if registers else 0),
        image_size=network.config.image_size,
        patch_size=network.config.patch_size,
        embed=_embed_by_transformers,
    )


def timm_port(
    entry_point: str,
    config: dict[str, Any],
    pretrained: str | Path | None,
    image_size: int | None,
) -> Port:
    """Make timm's network; its positions are resampled to the input's size when it is made."""
    size, registers = _parse(entry_point)
    own = dict(config)
    learned_at = own.pop("image_size", None)
    side = image_size or learned_at or _SIDE
    name = f"vit_{_WORDS[size]}_patch14_{'reg4_' if registers else ''}dinov2"
    network = create_network("DINOv2Encoder", name, pretrained, side, own)
    return Port(
        network,
        sizes={**own, "image_size": side},
        blocks="blocks",
        final_norm="norm",
        num_prefix=network.num_prefix_tokens,
        image_size=side,
        patch_size=network.patch_embed.patch_size[0],
        embed=_embed_by_timm,
    )


def hub_port(
    entry_point: str,
    config: dict[str, Any],
    pretrained: str | Path | None,
    repo: str | Path,
    source: str,
) -> Port:
    """Make the network by Meta's own code, which ``torch.hub`` finds on GitHub or in a clone."""
    if config.keys() - {"image_size"}:
        raise ValueError(
            f"DINOv2Encoder: config must be left out for port='hub', whose entry points have "
            f"fixed sizes, got {config}. Other sizes are made by port='transformers' or 'timm'."
        )
    published = pretrained == PUBLISHED
    network = _from_torch_hub(entry_point, published, config, str(repo), source)
    if pretrained is not None and not published:
        try:
            network.load_state_dict(read_weights(pretrained))
        except RuntimeError as error:
            raise ValueError(
                f"DINOv2Encoder: the weights {str(pretrained)!r} must be those of torch.hub's "
                f"{entry_point}, but: {error}"
            ) from error
    network.mask_token = None  # for pretraining only: it would never get a gradient
    side = config.get("image_size", _SIDE)
    return Port(
        network,
        sizes={"image_size": side},
        blocks="blocks",
        final_norm="norm",
        num_prefix=1 + network.num_register_tokens,
        image_size=side,
        patch_size=network.patch_size,
        embed=_embed_by_hub,
    )


def port_sizes_alone(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Return what makes a network without its weights: the entry point, or a folder's sizes."""
    by_name = arguments.get("port", "transformers") != "transformers"
    if by_name or arguments["pretrained"] == PUBLISHED:
        return {"config": arguments.get("config")}
    size, registers = _parse(arguments.get("entry_point", ENTRY_POINTS[0]))
    kind = Dinov2WithRegistersModel if registers else Dinov2Model
    return sizes_of_folder("DINOv2Encoder", kind, arguments, unsaid=_sizes(size))


def _from_torch_hub(
    entry_point: str, published: bool, config: dict[str, Any], repo: str, source: str
) -> Any:
    sizes = {"img_size": config["image_size"]} if "image_size" in config else {}
    if source == "local" and not (Path(repo) / "hubconf.py").is_file():
        raise OSError(
            f"DINOv2Encoder: repo must be a clone of facebookresearch/dinov2 with a hubconf.py for "
            f"source='local', got {repo}. Clone it, or use port='transformers' or 'timm'."
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="xFormers is not available")
            return torch.hub.load(
                repo, entry_point, source=source, trust_repo=True, pretrained=published, **sizes
            )
    except (URLError, RuntimeError) as error:
        raise OSError(
            f"DINOv2Encoder: torch.hub must find {entry_point} in {repo}, got "
            f"{type(error).__name__}: {error}. Run once with a network, clone the repository and "
            f"give repo=FOLDER and source='local', or use port='transformers' or 'timm'."
        ) from error


def _parse(entry_point: str) -> tuple[str, bool]:
    return entry_point.removeprefix("dinov2_vit")[0], entry_point.endswith("_reg")


def _sizes(size: str) -> dict[str, Any]:
    width, depth, heads = _SIZES[size]
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "patch_size": _PATCH,
        "use_swiglu_ffn": size == "g",
    }


def _embed_by_transformers(network: Any, pixels: Tensor) -> Tensor:
    return network.embeddings(pixels)


def _embed_by_timm(network: Any, pixels: Tensor) -> Tensor:
    return network.norm_pre(network._pos_embed(network.patch_embed(pixels)))


def _embed_by_hub(network: Any, pixels: Tensor) -> Tensor:
    return network.prepare_tokens_with_masks(pixels)
