"""A fusion that learns how much each level counts."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.fusions.base import Fusion, common_width


class WeightedLevels(Fusion):
    """Sum the levels, weighted by a softmax of one learned logit each.

    It starts as their mean and has one parameter per level, so that the weights tell which layers
    a task reads. Levels of unlike magnitude are not normalised: ``LLNLayerscale``, which does, was
    the better one in COMM's comparison.

    Args:
        in_dims: widths of the levels, encoder by encoder.

    Raises:
        ValueError: if the widths differ.

    Source:
        ELMo's scalar mix (Peters et al., 2018), https://arxiv.org/abs/1802.05365, without its
        overall factor, which the connector learns.

    Example:
        >>> import torch
        >>> WeightedLevels([[2, 2]])((torch.zeros(1, 1, 2), torch.ones(1, 1, 2))).tolist()
        [[[0.5, 0.5]]]
    """

    def __init__(self, in_dims: Sequence[Sequence[int]]) -> None:
        super().__init__(in_dims)
        self.out_dim = common_width(
            self, "Use LLNLayerscale, which projects each level, or ConcatLevels."
        )
        self.logits = nn.Parameter(torch.zeros(len(self.level_dims)))

    @property
    def level_weights(self) -> Float[Tensor, "_"]:
        """What each level is multiplied by; they sum to 1."""
        return self.logits.softmax(0)

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches``."""
        return num_patches

    def forward(self, levels: tuple[Float[Tensor, "B N D"], ...]) -> Float[Tensor, "B N D"]:
        """Sum the weighted levels."""
        weighted = [w * level for w, level in zip(self.level_weights, levels, strict=True)]
        return torch.stack(weighted).sum(0)
