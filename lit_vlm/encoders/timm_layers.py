"""Which of timm's intermediate outputs is which layer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.encoders.layers import resolve_layers

_FIRST_BLOCK = re.compile(r"(blocks|stages|layers)[._]0$")


@dataclass(frozen=True)
class LayerMap:
    """The layers to read of one network, as indices of its ``forward_intermediates``.

    Attributes:
        layers: the layers, resolved to non-negative numbers, in the order asked for.
        first: the layer that index 0 of timm's list is: 0 where it is a stem, else 1.
        embeddings: name of the module whose input is layer 0, if layer 0 is read that way.
        channels_last: whether the network's modules carry (B, H, W, D).
    """

    layers: tuple[int, ...]
    first: int
    embeddings: str | None
    channels_last: bool

    @classmethod
    def of(cls, network: nn.Module, name: str, layers: Sequence[int]) -> "LayerMap":
        """Resolve layers of a network; raise ``ValueError`` for one that does not exist."""
        info: Any = network.feature_info
        if not hasattr(network, "forward_intermediates"):
            raise ValueError(f"TimmEncoder: timm offers no intermediate layers of {name}.")
        modules = [entry["module"] for entry in info]
        entered = _FIRST_BLOCK.search(modules[0])
        stem = not entered and not modules[0].startswith("features")
        first = 0 if stem else 1
        lowest, highest = (0 if stem or entered else 1), len(modules) - 1 + first
        resolved = resolve_layers("TimmEncoder", layers, highest, lowest, name)
        reads_entry = bool(entered) and 0 in resolved
        last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        return cls(resolved, first, modules[0] if reads_entry else None, last)

    @property
    def _indices(self) -> list[int]:
        return sorted({max(layer - self.first, 0) for layer in self.layers})

    def cut(self, network: Any) -> None:
        """Remove everything behind the deepest layer, so that nothing trains unread."""
        network.prune_intermediate_layers(self._indices, prune_norm=True, prune_head=True)
        if self.embeddings and max(self.layers) == 0:
            network.set_submodule(self.embeddings, _Unchanged())

    def read(
        self, network: Any, pixels: Float[Tensor, "B 3 H W"], run_all: bool
    ) -> tuple[Tensor, list[Float[Tensor, "B _ _ _"]]]:
        """Return the network's last output and the maps of all layers, (B, D, H, W) each."""
        entry: list[Tensor] = []
        handle = None
        if self.embeddings:
            block = network.get_submodule(self.embeddings)
            handle = block.register_forward_pre_hook(lambda _, args: entry.append(args[0]))
        try:
            final, maps = network.forward_intermediates(
                pixels, indices=self._indices, stop_early=not run_all
            )
        finally:
            if handle:
                handle.remove()
        found = {
            index + self.first: level for index, level in zip(self._indices, maps, strict=True)
        }
        if entry:
            found[0] = self._as_map(network, entry[0], pixels)
        return final, [found[layer] for layer in self.layers]

    def _as_map(self, network: Any, tokens: Tensor, pixels: Tensor) -> Tensor:
        if tokens.ndim == 4:
            return tokens.permute(0, 3, 1, 2) if self.channels_last else tokens
        rows, columns = network.patch_embed.dynamic_feat_size(tuple(pixels.shape[-2:]))
        patches = tokens[:, getattr(network, "num_prefix_tokens", 0) :]
        return rearrange(patches, "b (h w) d -> b d h w", h=rows, w=columns)


class _Unchanged(nn.Module):
    """Stand in for a block: networks give theirs masks and positions beside the tokens."""

    def forward(self, tokens: Tensor, *_: Any, **__: Any) -> Tensor:
        return tokens
