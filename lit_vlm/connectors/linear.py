"""The simplest connector: one matrix."""

from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.connectors.base import Connector


class LinearConnector(Connector):
    """Project each visual token by one linear layer.

    The fewest parameters, and every patch keeps its own token; LLaVA 1.0 and PaLI-3 use it.

    Args:
        in_dim: width of the vision tokens.
        out_dim: width of the language model's embeddings.

    Source:
        LLaVA (Liu et al., 2023), https://arxiv.org/abs/2304.08485.

    Example:
        >>> import torch
        >>> LinearConnector(in_dim=8, out_dim=12)(torch.zeros(1, 16, 8)).shape
        torch.Size([1, 16, 12])
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim, out_dim)
        self.linear = nn.Linear(in_dim, out_dim)

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches``."""
        return num_patches

    def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B N D_out"]:
        """Project each token."""
        return self.linear(tokens)
