"""A fusion that gives the language model the tokens of every level."""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.fusions.base import Fusion, common_width


class TokenConcat(Fusion):
    """Line up the tokens of all levels, level after level or interleaved patch by patch.

    The language model reads every level by itself, at the price of length: two encoders of 576
    patches give 1152 tokens. Interleaving keeps the tokens of one patch together.

    Args:
        in_dims: widths of the levels, encoder by encoder.
        interleave: whether the tokens come patch by patch (a1 b1 a2 b2 ...) instead of level by
            level (a1 a2 ... b1 b2 ...).
        out_dim: width to which a linear layer of its own projects each level; None to leave
            levels, which must then have equal widths, as they are.

    Raises:
        ValueError: if the widths differ and ``out_dim`` is None.

    Source:
        Interleaved mixture of features (Tong et al., 2024), https://arxiv.org/abs/2401.06209.
        There each encoder has a whole connector of its own; here each level has at most a linear
        layer before the connector, which they share.

    Example:
        >>> import torch
        >>> levels = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[10.0], [20.0]]])
        >>> TokenConcat([[1], [1]])(levels).flatten().tolist()
        [1.0, 2.0, 10.0, 20.0]
        >>> TokenConcat([[1], [1]], interleave=True)(levels).flatten().tolist()
        [1.0, 10.0, 2.0, 20.0]
    """

    def __init__(
        self,
        in_dims: Sequence[Sequence[int]],
        interleave: bool = False,
        out_dim: int | None = None,
    ) -> None:
        super().__init__(in_dims)
        self.interleave = interleave
        if out_dim is None:
            self.out_dim = common_width(self, "Give out_dim, to which each level is projected.")
            self.projections = nn.ModuleList(nn.Identity() for _ in self.level_dims)
        else:
            self.out_dim = out_dim
            self.projections = nn.ModuleList(nn.Linear(dim, out_dim) for dim in self.level_dims)

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches`` times the number of levels."""
        return num_patches * len(self.level_dims)

    def forward(self, levels: tuple[Float[Tensor, "B N _"], ...]) -> Float[Tensor, "B M D_out"]:
        """Line up the projected tokens."""
        pairs = zip(self.projections, levels, strict=True)
        projected = torch.stack([project(level) for project, level in pairs])
        order = "l b n d -> b (n l) d" if self.interleave else "l b n d -> b (l n) d"
        return rearrange(projected, order)
