"""The contract of fusions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from lit_vlm.part import Part


class Fusion(Part, ABC):
    """Make one map of visual tokens out of several.

    Args:
        in_dims: width of each level, in the order that the encoder returns them.

    Attributes:
        out_dim: width of the fused map.
    """

    out_dim: int

    def __init__(self, in_dims: Sequence[int]) -> None:
        super().__init__()
        self.in_dims = tuple(in_dims)

    @abstractmethod
    def num_tokens(self, num_patches: int) -> int:
        """Return how many tokens the fused map has when each level has ``num_patches``."""

    @abstractmethod
    def forward(self, levels: tuple[Float[Tensor, "B N _"], ...]) -> Float[Tensor, "B M D_out"]:
        """Fuse the levels of one batch."""
