"""A learned token in place of the patches that an encoder shall not see."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lit_vlm.encoders import VisionEncoder


class PatchMask(nn.Module):
    """Put a mask token in place of embeddings of patches, before positions are added.

    Args:
        encoder: an encoder whose patches are embedded by one convolution; a hook stays on it.

    Raises:
        ValueError: if the encoder has no such convolution.
    """

    def __init__(self, encoder: VisionEncoder) -> None:
        super().__init__()
        embedding = patch_embedding(encoder)
        if embedding is None:
            raise ValueError(
                "SelfDistillation: patch_weight must be 0 for an encoder that does not embed each "
                f"patch of its map by itself, got {type(encoder).__name__} of a map of "
                f"{encoder.grid[0]} x {encoder.grid[1]}. A convolutional network has no patches to "
                f"mask: give --model.patch_weight 0."
            )
        self.mask_token = nn.Parameter(torch.zeros(embedding.out_channels))
        self._masks: Tensor | None = None
        # The hook stays for good: torch.compile cannot trace one that comes and goes.
        embedding.register_forward_hook(self._replace)

    @contextmanager
    def over(self, masks: Bool[Tensor, "B N"]) -> Iterator[None]:
        """Let the encoder not see some patches of the images that it encodes meanwhile.

        Args:
            masks: the patches, row-major.
        """
        self._masks = masks
        try:
            yield
        finally:
            self._masks = None

    def _replace(
        self, _: nn.Module, args: Any, patches: Float[Tensor, "B D h w"]
    ) -> Float[Tensor, "B D h w"]:
        if self._masks is None:
            return patches
        masks = rearrange(self._masks, "b (h w) -> b 1 h w", h=patches.shape[-2])
        token = rearrange(self.mask_token, "d -> d 1 1").to(patches.dtype)
        return torch.where(masks, token, patches)


def patch_embedding(encoder: VisionEncoder) -> nn.Conv2d | None:
    """Return the convolution that cuts an image into the patches of the encoder's map, if any."""
    sides = zip(encoder.image_size, encoder.grid, strict=True)
    patch = tuple(side // cells for side, cells in sides)
    found = [
        module
        for module in encoder.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == module.stride == patch
    ]
    return found[0] if len(found) == 1 else None
