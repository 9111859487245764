"""A fusion that concatenates levels on channels."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lit_vlm.fusions.base import Fusion


class ConcatLevels(Fusion):
    """Concatenate all levels on channels, in the order in which they were asked for.

    Nothing is lost and the number of tokens stays; only the connector's first layer gets wider.
    ViP-LLaVA reads five layers of CLIP ViT-L this way, 5120 channels.

    Args:
        in_dims: widths of the levels, encoder by encoder; they may differ.

    Source:
        ViP-LLaVA (Cai et al., 2023), https://arxiv.org/abs/2312.00784, without the LayerNorm that
        follows there; the same as a list for ``vision_feature_layer`` in transformers' LLaVA.

    Example:
        >>> import torch
        >>> ConcatLevels([[2, 1]])((torch.zeros(1, 1, 2), torch.ones(1, 1, 1)))
        tensor([[[0., 0., 1.]]])
    """

    def __init__(self, in_dims: Sequence[Sequence[int]]) -> None:
        super().__init__(in_dims)
        self.out_dim = sum(self.level_dims)

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches``."""
        return num_patches

    def forward(self, levels: tuple[Float[Tensor, "B N _"], ...]) -> Float[Tensor, "B N D_out"]:
        """Concatenate the channels of each patch."""
        return torch.cat(levels, dim=-1)
