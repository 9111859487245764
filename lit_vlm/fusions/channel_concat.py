"""A fusion that puts the maps of several encoders side by side."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lit_vlm.fusions.base import Fusion


class ChannelConcat(Fusion):
    """Concatenate one map of each encoder on channels.

    Patches meet where they are in the image, and the language model sees no more tokens than of
    one encoder: DINOv2 ViT-L beside SigLIP SO400M is 1024 + 1152 = 2176 channels.

    Args:
        in_dims: widths of the levels, encoder by encoder; one of each encoder.

    Raises:
        ValueError: if an encoder does not return exactly one level.

    Source:
        Prismatic VLMs (Karamcheti et al., 2024), https://arxiv.org/abs/2402.07865.

    Example:
        >>> import torch
        >>> ChannelConcat([[2], [1]])((torch.zeros(1, 1, 2), torch.ones(1, 1, 1)))
        tensor([[[0., 0., 1.]]])
    """

    def __init__(self, in_dims: Sequence[Sequence[int]]) -> None:
        super().__init__(in_dims)
        for encoder, dims in enumerate(self.in_dims):
            if len(dims) != 1:
                raise ValueError(
                    f"ChannelConcat: each encoder must return exactly one level, got {len(dims)} "
                    f"of encoder {encoder}. Ask it for one layer, or use ConcatLevels or "
                    f"COMMFusion, which take several."
                )
        self.out_dim = sum(self.level_dims)

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches``: the encoders' patches coincide."""
        return num_patches

    def forward(self, levels: tuple[Float[Tensor, "B N _"], ...]) -> Float[Tensor, "B N D_out"]:
        """Concatenate the encoders' channels of each patch."""
        return torch.cat(levels, dim=-1)
