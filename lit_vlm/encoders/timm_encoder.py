"""Any network of timm as a vision encoder."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from einops import rearrange
from jaxtyping import Float
from timm.data.config import resolve_model_data_config
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from lit_vlm.encoders.base import VisionEncoder, VisualFeatures
from lit_vlm.encoders.timm_layers import LayerMap
from lit_vlm.freezing import evaluating
from lit_vlm.weights import read_weights


class TimmEncoder(VisionEncoder):
    """Read any layers of any timm network: ViT, ResNet, ConvNeXt, Swin, EfficientNet, VGG and more.

    Layers count as everywhere here: 0 is the embeddings (the patch embedding of a ViT after its
    positions, the stem of a convolutional network), k is the output of block or stage k, without
    the final norm. The network is cut after the deepest layer read. Stages of unequal grids are
    averaged down to the coarsest of those asked for.

    Args:
        model_name: timm's name of the architecture, e.g. ``resnet50``; may carry a pretrained tag
            (``vit_base_patch16_224.augreg_in21k``), which also sets the image statistics.
        pretrained: weights: ``hub`` or another timm name for those that timm downloads, or a
            local file or folder (``.safetensors``, ``.pth``, ``.bin``); None for random weights.
        layers: layers to read, in this order; negative ones count from the last.
        image_size: side of the square input, in pixels; None for the network's own.
        mean: mean of each channel; None for the network's own.
        std: standard deviation of each channel; None for the network's own.
        config: further arguments of ``timm.create_model``: sizes (``embed_dim``, ``depth``, ...).
        pool: also return the network's pooled output; the whole network is then kept and run.
        gradient_checkpointing: recompute blocks in the backward pass, to save memory.

    Raises:
        ValueError: if the name or a layer is unknown, or the weights do not fit.
        OSError: if weights are missing and cannot be downloaded.

    Source:
        timm (Wightman, 2019), https://github.com/huggingface/pytorch-image-models.

    Example:
        >>> encoder = TimmEncoder("test_resnet", layers=[2, 3], image_size=64)
        >>> encoder.grid, encoder.dims
        ((4, 4), (48, 192))
    """

    def __init__(
        self,
        model_name: str,
        pretrained: str | Path | None = None,
        layers: Sequence[int] = (-1,),
        image_size: int | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        config: dict[str, Any] | None = None,
        pool: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        network = _create(model_name, pretrained, image_size, config or {})
        statistics = resolve_model_data_config(network)
        size = image_size or statistics["input_size"][-1]
        if mean is None and std is None:
            _warn_about_generic_statistics(network, model_name)
        super().__init__((size, size), mean or statistics["mean"], std or statistics["std"])
        self._map = LayerMap.of(network, model_name, layers)
        if not pool:
            self._map.cut(network)
        if gradient_checkpointing:
            network.set_grad_checkpointing(True)
        self.network = network
        self.pool = pool
        features = self._try_out()
        self.dims = tuple(level.shape[-1] for level in features.levels)
        self.grid = features.grid

    def rebuild_config(self) -> dict[str, Any]:
        """Name the architecture without its weights, which the checkpoint holds."""
        record = super().rebuild_config()
        mean, std = self.mean.flatten().tolist(), self.std.flatten().tolist()
        own = {"pretrained": None, "image_size": self.image_size[0], "mean": mean, "std": std}
        record["init_args"].update(own)
        return record

    def encode(self, pixels: Float[Tensor, "B 3 H W"]) -> VisualFeatures:
        """Run the network up to the deepest layer read."""
        final, maps = self._map.read(self.network, pixels, run_all=self.pool)
        rows, columns = min(tuple(level.shape[-2:]) for level in maps)
        levels = tuple(
            rearrange(adaptive_avg_pool2d(level, (rows, columns)), "b d h w -> b (h w) d")
            if level.shape[-2:] != (rows, columns)
            else rearrange(level, "b d h w -> b (h w) d")
            for level in maps
        )
        pooled = self.network.forward_head(final, pre_logits=True) if self.pool else None
        return VisualFeatures(levels, (rows, columns), pooled)

    @torch.no_grad()
    def _try_out(self) -> VisualFeatures:
        # Only a pass knows a network's strides and widths; evaluation mode spares BatchNorm.
        with evaluating(self.network):
            return self.encode(torch.zeros(1, 3, *self.image_size))


def _create(
    name: str, pretrained: str | Path | None, image_size: int | None, config: dict[str, Any]
) -> Any:
    from_hub = pretrained is not None and not Path(pretrained).exists()
    if from_hub and str(pretrained) != "hub":
        name = str(pretrained)
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('.')[0][:8]}*")[:5]
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise ValueError(
            f"TimmEncoder: model_name must be a network that timm knows, got {name!r}.{hint} "
            f"timm.list_models() names all."
        )
    sized: dict[str, Any] = (
        {"img_size": image_size} if image_size and _takes_image_size(name) else {}
    )
    try:
        network = timm.create_model(name, pretrained=from_hub, num_classes=0, **sized, **config)
    except TypeError as error:
        raise ValueError(f"TimmEncoder: config does not fit {name}: {error}.") from error
    except Exception as error:
        if not from_hub:
            raise
        raise OSError(
            f"TimmEncoder: the weights {name!r} are not on this machine and could not be "
            f"downloaded ({type(error).__name__}). Give a local file as pretrained, or run once "
            f"with a network."
        ) from error
    if pretrained is not None and not from_hub:
        _load(network, name, Path(pretrained))
    return network


def _load(network: Any, name: str, path: Path) -> None:
    weights = read_weights(path)
    heads = {network.pretrained_cfg.get("classifier")}
    weights = {k: v for k, v in weights.items() if k.rpartition(".")[0] not in heads}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"TimmEncoder: the weights in {path} do not fit {name}: {error}"
        ) from error


def _takes_image_size(name: str) -> bool:
    # Transformers with position tables fix their size at creation; convolutions take any.
    family = timm.model_entrypoint(name.split(".")[0]).__module__.rpartition(".")[2]
    return family.startswith(("vision_transformer", "swin", "deit", "beit", "eva", "vitamin"))


def _warn_about_generic_statistics(network: Any, name: str) -> None:
    config = network.pretrained_cfg
    if config.get("tag") or config.get("hf_hub_id") or config.get("url"):
        return
    warnings.warn(
        f"TimmEncoder: {name} has no pretrained tag, so timm's generic image statistics are used "
        f"(mean {config.get('mean')}, std {config.get('std')}). Name a tag ({name}.TAG), or give "
        f"mean and std, if weights trained with others are loaded.",
        stacklevel=3,
    )
