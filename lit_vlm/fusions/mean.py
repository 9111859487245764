"""A fusion that averages levels."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lit_vlm.fusions.base import Fusion, common_width


class MeanLevels(Fusion):
    """Average all levels, each with the same weight.

    It has no parameters, and is the baseline of every learned merging. Which layers it averages
    matters: for DINOv2, the mean of layers 19 to 24 of 24 beat the mean of all in COMM.

    Args:
        in_dims: widths of the levels, encoder by encoder.

    Raises:
        ValueError: if the widths differ.

    Source:
        Mean(all) of COMM (Jiang et al., 2023), https://arxiv.org/abs/2310.08825; its Mean(half)
        is the same on the deeper half of the layers.

    Example:
        >>> import torch
        >>> MeanLevels([[2, 2]])((torch.zeros(1, 1, 2), torch.ones(1, 1, 2)))
        tensor([[[0.5000, 0.5000]]])
    """

    def __init__(self, in_dims: Sequence[Sequence[int]]) -> None:
        super().__init__(in_dims)
        self.out_dim = common_width(
            self, "Use LLNLayerscale, which projects each level, or ConcatLevels."
        )

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches``."""
        return num_patches

    def forward(self, levels: tuple[Float[Tensor, "B N D"], ...]) -> Float[Tensor, "B N D"]:
        """Average the levels."""
        return torch.stack(levels).mean(0)
