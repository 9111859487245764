"""A connector that projects each visual token by a small network."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.connectors.base import Connector

_ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


class MLPConnector(Connector):
    """Project each visual token by ``depth`` linear layers with an activation between them.

    LLaVA 1.5 replaced one linear layer by two (``depth=2``, GELU) and gained on most benchmarks.
    Every hidden layer is as wide as the output, as in LLaVA's ``mlpNx_gelu``.

    Args:
        in_dim: width of the vision tokens.
        out_dim: width of the language model's embeddings.
        depth: number of linear layers, at least 1; 1 is a ``LinearConnector``.
        activation: what stands between the layers; ``gelu`` is the exact one.

    Raises:
        ValueError: if ``depth`` is less than 1 or the activation is unknown.

    Source:
        LLaVA 1.5 (Liu et al., 2023), https://arxiv.org/abs/2310.03744.

    Example:
        >>> import torch
        >>> MLPConnector(in_dim=8, out_dim=12, depth=3)(torch.zeros(1, 16, 8)).shape
        torch.Size([1, 16, 12])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        depth: int = 2,
        activation: Literal["gelu", "relu", "silu", "tanh"] = "gelu",
    ) -> None:
        super().__init__(in_dim, out_dim)
        if depth < 1:
            raise ValueError(f"MLPConnector: depth must be at least 1, got {depth}.")
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"MLPConnector: activation must be one of {', '.join(_ACTIVATIONS)}, "
                f"got {activation!r}."
            )
        layers: list[nn.Module] = [nn.Linear(in_dim, out_dim)]
        for _ in range(depth - 1):
            layers += [_ACTIVATIONS[activation](), nn.Linear(out_dim, out_dim)]
        self.layers = nn.Sequential(*layers)

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches``."""
        return num_patches

    def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B N D_out"]:
        """Project each token."""
        return self.layers(tokens)
