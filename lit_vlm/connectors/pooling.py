"""A connector that shortens the sequence by pooling neighbouring patches."""

from einops import reduce
from jaxtyping import Float
from torch import Tensor

from lit_vlm.connectors.base import Connector
from lit_vlm.connectors.mlp import Activation, MLPConnector
from lit_vlm.connectors.positions import grid_side


class PoolingConnector(Connector):
    """Average each ``stride`` x ``stride`` window of patches, then project it with an MLP.

    Pooling has no weights, so the language model alone decides what to abstract. A 24 x 24 grid
    gives 144 tokens at ``stride=2`` and 576 at ``stride=1``, a plain ``MLPConnector``, whose
    parameters it has: 21.0 million from 1024 to 4096.

    Args:
        in_dim: width of the vision tokens.
        out_dim: width of the language model's embeddings.
        stride: side of a window, in patches, at least 1.
        depth: number of linear layers of the MLP, at least 1.
        activation: what stands between them.

    Raises:
        ValueError: if ``stride`` or ``depth`` is less than 1, or windows do not tile a square grid
            of tokens.

    Source:
        DeCo (Yao et al., 2024), https://arxiv.org/abs/2405.20985; windows are fixed, not adaptive.

    Example:
        >>> import torch
        >>> PoolingConnector(in_dim=8, out_dim=12)(torch.zeros(1, 16, 8)).shape
        torch.Size([1, 4, 12])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        stride: int = 2,
        depth: int = 2,
        activation: Activation = "gelu",
    ) -> None:
        super().__init__(in_dim, out_dim)
        if stride < 1:
            raise ValueError(f"PoolingConnector: stride must be at least 1, got {stride}.")
        self.stride = stride
        self.mlp = MLPConnector(in_dim, out_dim, depth=depth, activation=activation)

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches / stride**2``; raise ``ValueError`` if the windows do not tile."""
        return (grid_side("PoolingConnector", num_patches, self.stride) // self.stride) ** 2

    def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B M D_out"]:
        """Map the tokens, in row-major order, to one for each window."""
        side = grid_side("PoolingConnector", tokens.shape[1], self.stride) // self.stride
        windows = {"h": side, "w": side, "i": self.stride, "j": self.stride}
        return self.mlp(reduce(tokens, "b (h i w j) d -> b (h w) d", "mean", **windows))
