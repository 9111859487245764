"""The contract of connectors."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from lit_vlm.part import Part


class Connector(Part, ABC):
    """Carry visual tokens into the language model's embedding space.

    Args:
        in_dim: width of the vision tokens.
        out_dim: width of the language model's embeddings.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.out_dim = out_dim

    @abstractmethod
    def num_tokens(self, num_patches: int) -> int:
        """Return how many tokens ``num_patches`` vision tokens become."""

    @abstractmethod
    def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B M D_out"]:
        """Map N vision tokens to ``M = num_tokens(N)`` tokens of the language model."""
