"""Any network of timm as a vision encoder."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from timm.data.config import resolve_model_data_config
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from lit_vlm.encoders.base import VisionEncoder, VisualFeatures
from lit_vlm.encoders.held_encoder import complete
from lit_vlm.encoders.timm_layers import LayerMap
from lit_vlm.encoders.timm_network import create_network, is_local, tagged_names
from lit_vlm.freezing import evaluating


class TimmEncoder(VisionEncoder):
    """Read any layers of any timm network: ViT, ResNet, ConvNeXt, Swin, EfficientNet, VGG and more.

    Layers count as everywhere here: 0 is the embeddings (the patch embedding of a ViT after its
    positions, the stem of a convolutional network; a VGG has none), k is the output of block or
    stage k, without the final norm. The network is cut after the deepest layer read. Stages of
    unequal grids are averaged down to the coarsest of those asked for.

    Args:
        model_name: timm's name of the architecture, e.g. ``resnet50``; may carry a pretrained tag
            (``vit_base_patch16_224.augreg_in21k``), which also sets the image statistics.
        pretrained: weights: ``hub``, or timm's name with another tag, for those that timm
            downloads, or a local file or folder (``.safetensors``, ``.pth``, ``.bin``), of which
            timm resamples the positions to ``image_size``, or a checkpoint (``.ckpt``) of a run of
            this library, whose encoder is taken, sizes included; None for random weights.
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
        given = complete(self, pretrained, config, image_size, mean, std, model_name=model_name)
        image_size, mean, std = given.image_size, given.mean, given.std
        network = create_network(
            "TimmEncoder", model_name, given.pretrained, image_size, given.config
        )
        statistics = resolve_model_data_config(network)
        native = statistics["input_size"][-1]
        size = image_size or native
        if size != native:
            _check_patches(network, size)
        if mean is None or std is None:
            _warn_about_statistics(network, model_name, from_file=is_local(given.pretrained))
        super().__init__((size, size), mean or statistics["mean"], std or statistics["std"])
        self._map = LayerMap.of(network, model_name, layers)
        if not pool:
            self._map.cut(network)
        if gradient_checkpointing:
            _checkpoint_gradients(network, model_name)
        self.network = network
        self.pool = pool
        given.load_into(self)
        features = self._try_out()
        self.dims = tuple(level.shape[-1] for level in features.levels)
        self.grid = features.grid

    def rebuild_config(self) -> dict[str, Any]:
        """Name the architecture without its weights, which the checkpoint holds."""
        return self.rebuild_without_weights()

    @property
    def level_names(self) -> tuple[str, ...]:
        """The layers by number, embeddings first."""
        return tuple(f"layer_{layer}" for layer in self._map.layers)

    def encode(self, pixels: Float[Tensor, "B 3 H W"]) -> VisualFeatures:
        """Run the network up to the deepest layer read."""
        final, maps = self._map.read(self.network, pixels, run_all=self.pool)
        rows, columns = min([tuple(level.shape[-2:]) for level in maps])
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
            try:
                return self.encode(torch.zeros(1, 3, *self.image_size))
            except (AssertionError, RuntimeError) as error:
                raise ValueError(
                    f"TimmEncoder: image_size must be one that the network takes, got "
                    f"{self.image_size[0]}: {error}. Choose another, or leave it out."
                ) from error


def _check_patches(network: Any, size: int) -> None:
    # Some networks leave out the last pixels of their own size; of another nobody asks for that.
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    side = max(patch) if isinstance(patch, tuple) else patch
    if size % side:
        lower = max(size // side, 1) * side
        raise ValueError(
            f"TimmEncoder: image_size must be a multiple of the patch size {side}, got {size}. "
            f"Take {lower} or {lower + side}."
        )


def _warn_about_statistics(network: Any, name: str, from_file: bool) -> None:
    config = network.pretrained_cfg
    tag = config.get("tag")
    is_generic = tag in (None, "", "untrained")
    if not is_generic and ("." in name or not from_file):
        return
    names = tagged_names(name)
    advice = f"Name a tag ({', '.join(names)}), or give" if names else "Give"
    warnings.warn(
        f"TimmEncoder: {name} has no pretrained tag, so the image statistics of timm's "
        f"{'default' if is_generic else f'default tag {tag}'} are used (mean "
        f"{config.get('mean')}, std {config.get('std')}). {advice} mean and std, if weights "
        f"trained with others are loaded.",
        stacklevel=3,
    )


def _checkpoint_gradients(network: Any, name: str) -> None:
    try:
        network.set_grad_checkpointing(True)
    except (AssertionError, AttributeError) as error:
        raise ValueError(
            f"TimmEncoder: gradient_checkpointing must be off for {name}, got True: {error}."
        ) from error
