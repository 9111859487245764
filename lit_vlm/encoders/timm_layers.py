"""Which of timm's intermediate outputs is which layer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.encoders.layers import resolve_layers

_STEM = re.compile(r"stem|conv|act|bn|(norm|layer|level)0$")


@dataclass(frozen=True)
class LayerMap:
    """The layers to read of one network, as indices of its ``forward_intermediates``.

    Attributes:
        layers: the layers, resolved to non-negative numbers, in the order asked for.
        first: the layer that index 0 of timm's list is: 0 where it is a stem, else 1.
        entry: what enters the first block, if layer 0 is read there.
    """

    layers: tuple[int, ...]
    first: int
    entry: "Entry | None"

    @classmethod
    def of(cls, network: nn.Module, name: str, layers: Sequence[int]) -> "LayerMap":
        """Resolve layers of a network; raise ``ValueError`` for one that does not exist."""
        info: Any = network.feature_info
        if not hasattr(network, "forward_intermediates"):
            raise ValueError(f"TimmEncoder: timm offers no intermediate layers of {name}.")
        modules = [entry["module"] for entry in info]
        entered = modules[0].endswith(".0")  # the first of a list of blocks
        first = 1 if entered or not _STEM.search(modules[0]) else 0
        lowest = 1 if first and not entered else 0
        resolved = resolve_layers("TimmEncoder", layers, len(modules) - 1 + first, lowest, name)
        entry = Entry(network, modules[0]) if entered and 0 in resolved else None
        return cls(resolved, first, entry)

    @property
    def _indices(self) -> list[int]:
        return sorted({max(layer - self.first, 0) for layer in self.layers})

    def cut(self, network: Any) -> None:
        """Remove everything behind the deepest layer, so that nothing trains unread."""
        network.prune_intermediate_layers(self._indices, prune_norm=True, prune_head=True)
        if self.entry and max(self.layers) == 0:
            self.entry.end_before(network)

    def read(
        self, network: Any, pixels: Float[Tensor, "B 3 H W"], run_all: bool
    ) -> tuple[Tensor | None, list[Float[Tensor, "B _ _ _"]]]:
        """Return the network's last output, if run, and the maps of all layers (B, D, H, W)."""
        final = None
        if self.entry:
            self.entry.listen()
        try:
            if run_all:
                final, maps = network.forward_intermediates(pixels, indices=self._indices)
            else:
                maps = network.forward_intermediates(
                    pixels, indices=self._indices, stop_early=True, intermediates_only=True
                )
        finally:
            entered = self.entry.take() if self.entry else None
        found = {
            index + self.first: level for index, level in zip(self._indices, maps, strict=True)
        }
        if entered is not None:
            found[0] = _as_map(network, entered, pixels)
        return final, [found[layer] for layer in self.layers]


def _as_map(network: nn.Module, tokens: Any, pixels: Tensor) -> Tensor:
    size = pixels.shape[-2:]
    level = _spread(network, tokens, (size[0], size[1]))
    if level is None or (size[0] == size[1] and level.shape[-2] != level.shape[-1]):
        raise _no_layer_0(network)
    return level


def _no_layer_0(network: nn.Module) -> ValueError:
    return ValueError(
        f"TimmEncoder: layers must be 1 or higher for {type(network).__name__}, whose embeddings "
        f"are no map of the image, got 0."
    )


def _spread(network: Any, tokens: Any, size: tuple[int, int]) -> Tensor | None:
    if not isinstance(tokens, Tensor):
        return None
    if tokens.ndim == 4:
        is_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        return rearrange(tokens, "b h w d -> b d h w") if is_last else tokens
    grid_of = getattr(getattr(network, "patch_embed", None), "dynamic_feat_size", None)
    if grid_of is None:
        return None
    rows, columns = grid_of(size)
    patches = tokens[:, -rows * columns :]  # behind CLS and registers
    return rearrange(patches, "b (h w) d -> b d h w", h=rows, w=columns)


class Entry:
    """Keep what enters a module, while someone listens.

    The hook stays on the module for good: ``torch.compile`` cannot trace one that comes and goes.
    What a gradient checkpoint runs it cannot trace with a hook: then it breaks the graph here.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        self.name = name
        self._heard: list[Any] | None = None
        try:
            module = network.get_submodule(name)
        except AttributeError as error:  # timm names stages that it never built as modules
            raise _no_layer_0(network) from error
        while isinstance(module, nn.Sequential):  # gradient checkpoints run its modules one by one
            module = module[0]
        module.register_forward_pre_hook(self._keep)

    def end_before(self, network: nn.Module) -> None:
        """Put what hands its input on in the module's place."""
        unchanged = _Unchanged()
        unchanged.register_forward_pre_hook(self._keep)
        is_list = isinstance(network.get_submodule(self.name), nn.Sequential)
        network.set_submodule(self.name, nn.Sequential(unchanged) if is_list else unchanged)

    def listen(self) -> None:
        """Keep what enters from now on."""
        self._heard = []

    def take(self) -> Any:
        """Return what entered, and keep nothing: gradient checkpoints run the module again."""
        heard, self._heard = self._heard, None
        return heard[0] if heard else None

    def _keep(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        if self._heard is not None:
            self._heard.append(args[0])


class _Unchanged(nn.Module):
    """Stand in for a block: networks give theirs masks and positions beside the tokens."""

    def forward(self, tokens: Any, *_: Any, **__: Any) -> Any:
        return tokens
