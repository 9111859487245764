"""The contract of fusions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from lit_vlm.part import Part


class Fusion(Part, ABC):
    """Make one map of visual tokens out of several: of some layers, of one or several encoders.

    Args:
        in_dims: widths of the levels, encoder by encoder; ``[[1024, 1024]]`` for two layers of
            one encoder.

    Attributes:
        in_dims: the same, as tuples.
        level_dims: width of each level, in the order in which ``forward`` gets them.
        out_dim: width of the fused map.
    """

    out_dim: int

    def __init__(self, in_dims: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.in_dims = tuple(tuple(dims) for dims in in_dims)
        self.level_dims = tuple(dim for dims in self.in_dims for dim in dims)

    @abstractmethod
    def num_tokens(self, num_patches: int) -> int:
        """Return how many tokens the fused map has when each level has ``num_patches``."""

    @abstractmethod
    def forward(self, levels: tuple[Float[Tensor, "B N _"], ...]) -> Float[Tensor, "B M D_out"]:
        """Fuse the levels of one batch."""

    def by_encoder(
        self, levels: tuple[Float[Tensor, "B N _"], ...]
    ) -> list[tuple[Float[Tensor, "B N _"], ...]]:
        """Split levels into those of each encoder."""
        left = iter(levels)
        return [tuple(next(left) for _ in dims) for dims in self.in_dims]


def common_width(fusion: Fusion, remedy: str) -> int:
    """Return the width that all levels of a fusion have.

    Args:
        fusion: the fusion, whose ``in_dims`` are known.
        remedy: what to do where the widths differ, as a sentence.

    Raises:
        ValueError: if the widths differ.
    """
    if len(set(fusion.level_dims)) != 1:
        widths = ", ".join(map(str, fusion.level_dims))
        raise ValueError(
            f"{type(fusion).__name__}: levels must have equal widths, got {widths}. {remedy}"
        )
    return fusion.level_dims[0]
