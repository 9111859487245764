"""What plain vision transformers share, whichever library wrote them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lit_vlm.encoders.base import VisionEncoder, VisualFeatures
from lit_vlm.encoders.layers import resolve_layers


class ViTEncoder(VisionEncoder, ABC):
    """A vision transformer of equal blocks, read block by block and cut after the deepest read.

    Args:
        network: the transformer.
        sizes: the ``config`` that makes a network of its shape.
        blocks: dotted name of its list of blocks.
        final_norm: dotted name of the norm after the last block.
        num_prefix: number of tokens before the patches (CLS, registers).
        layers: layers to read, in this order; negative ones count from the last.
        image_size: side of the square input, in pixels.
        patch_size: side of a patch, in pixels.
        mean: mean of each channel.
        std: standard deviation of each channel.
        norm: put every level through the network's final norm.
        pool: also return the network's pooled output; the whole network is then kept and run.
        gradient_checkpointing: recompute blocks in the backward pass, to save memory.

    Raises:
        ValueError: if a layer does not exist, or patches do not tile the input.

    Attributes:
        resamples_positions: whether ``set_image_size`` can change the size of images.
    """

    resamples_positions = True

    def __init__(
        self,
        network: nn.Module,
        sizes: dict[str, Any],
        blocks: str,
        final_norm: str,
        num_prefix: int,
        layers: Sequence[int],
        image_size: int,
        patch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        norm: bool,
        pool: bool,
        gradient_checkpointing: bool,
    ) -> None:
        who = type(self).__name__
        _check_size(who, image_size, patch_size)
        super().__init__((image_size, image_size), mean, std)
        self.network: Any = network
        self._sizes = sizes
        self.norm = norm
        self.pool = pool
        self.gradient_checkpointing = gradient_checkpointing
        self._patch_size = patch_size
        self.grid = (image_size // patch_size, image_size // patch_size)
        self._blocks, self._final_norm = blocks, final_norm
        self._num_prefix = num_prefix
        self._layers = resolve_layers(who, layers, highest=len(self.blocks))
        self.dims = (_width(network.get_submodule(final_norm)),) * len(self._layers)
        if not pool:
            del self.blocks[max(self._layers) :]
            self.cut_head(norm)

    def set_image_size(self, side: int) -> None:
        """Work at another size of square images; positions are resampled to it at each pass.

        Raises:
            ValueError: if it is no multiple of the patch size, or the network's positions are
                fixed when it is made.
        """
        if not self.resamples_positions:
            super().set_image_size(side)
        _check_size(type(self).__name__, side, self._patch_size)
        self.image_size = (side, side)
        self.grid = (side // self._patch_size, side // self._patch_size)

    def checkpoint_state(self) -> dict[str, Any]:
        """Return the size of images, which may have changed since the encoder was made."""
        return {"image_size": self.image_size[0]} if self.resamples_positions else {}

    def load_checkpoint_state(self, state: dict[str, Any]) -> None:
        """Work at the size of images that the checkpoint's encoder worked at."""
        self.set_image_size(state["image_size"])

    def rebuild_config(self) -> dict[str, Any]:
        """Name the sizes without the weights, which the checkpoint holds."""
        return self.rebuild_without_weights(config=self._sizes)

    @property
    def blocks(self) -> nn.ModuleList | nn.Sequential:
        """The blocks that are run."""
        blocks = self.network.get_submodule(self._blocks)
        assert isinstance(blocks, nn.ModuleList | nn.Sequential)
        return blocks

    @property
    def level_names(self) -> tuple[str, ...]:
        """The layers by number, embeddings first."""
        return tuple(f"layer_{layer}" for layer in self._layers)

    def grid_of(self, pixels: Float[Tensor, "B 3 H W"]) -> tuple[int, int]:
        """Return rows and columns of the map of pixels, which may have another size."""
        height, width = pixels.shape[-2:]
        return height // self._patch_size, width // self._patch_size

    @abstractmethod
    def embed(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B T D"]:
        """Return layer 0: the tokens that enter the first block, prefix first."""

    @abstractmethod
    def pool_tokens(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B D"]:
        """Return one vector per image from the last block's tokens after the final norm."""

    def run_block(self, block: nn.Module, tokens: Float[Tensor, "B T D"]) -> Tensor:
        """Run one block."""
        return block(tokens)

    def cut_head(self, keep_norm: bool) -> None:
        """Remove what comes after the blocks, so that nothing trains unread."""
        if not keep_norm:
            self.network.set_submodule(self._final_norm, nn.Identity())

    def encode(self, pixels: Float[Tensor, "B 3 H W"]) -> VisualFeatures:
        """Run the blocks and keep the layers asked for.

        Pixels of another size than the encoder's are encoded at their own, where positions can be
        resampled.
        """
        tokens = self.embed(pixels)
        kept = [tokens]
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            if recompute:
                tokens = checkpoint(self.run_block, block, tokens, use_reentrant=False)
            else:
                tokens = self.run_block(block, tokens)
            kept.append(tokens)
        levels = tuple(self._level(kept[layer]) for layer in self._layers)
        pooled = self.pool_tokens(self._normed(tokens)) if self.pool else None
        return VisualFeatures(levels, self.grid_of(pixels), pooled)

    def _level(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B N D"]:
        tokens = self._normed(tokens) if self.norm else tokens
        return tokens[:, self._num_prefix :]

    def _normed(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return self.network.get_submodule(self._final_norm)(tokens)


def _check_size(who: str, side: int, patch_size: int) -> None:
    if side < patch_size or side % patch_size:
        lower = max(side // patch_size, 1) * patch_size
        raise ValueError(
            f"{who}: image_size must be a multiple of the patch size {patch_size}, got {side}. "
            f"Take {lower} or {lower + patch_size}."
        )


def _width(norm: Any) -> int:
    return int(norm.weight.shape[0])
