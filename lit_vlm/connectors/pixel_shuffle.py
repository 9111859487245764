"""A connector that shortens the sequence by stacking neighbouring patches on channels."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.connectors.base import Connector
from lit_vlm.connectors.positions import grid_side


class PixelShuffleConnector(Connector):
    """Stack each ``scale`` x ``scale`` window of patches on channels, then project it linearly.

    Unlike pooling it loses nothing before the projection. A 24 x 24 grid gives 144 tokens at
    ``scale=2`` and 64 at ``scale=3``. The projection has ``scale**2 * in_dim * out_dim`` weights,
    16.8 million from 1024 to 4096 at ``scale=2``, and no bias.

    Args:
        in_dim: width of the vision tokens.
        out_dim: width of the language model's embeddings.
        scale: side of a window, in patches, at least 1.

    Raises:
        ValueError: if ``scale`` is less than 1, or windows do not tile a square grid of tokens.

    Source:
        Idefics3 (Laurençon et al., 2024), https://arxiv.org/abs/2408.12637, and SmolVLM (Marafioti
        et al., 2025), https://arxiv.org/abs/2504.05299; channels in transformers' order, the
        patches of a window row by row.

    Example:
        >>> import torch
        >>> PixelShuffleConnector(in_dim=8, out_dim=12)(torch.zeros(1, 16, 8)).shape
        torch.Size([1, 4, 12])
    """

    def __init__(self, in_dim: int, out_dim: int, scale: int = 2) -> None:
        super().__init__(in_dim, out_dim)
        if scale < 1:
            raise ValueError(f"PixelShuffleConnector: scale must be at least 1, got {scale}.")
        self.scale = scale
        self.project = nn.Linear(scale**2 * in_dim, out_dim, bias=False)

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches / scale**2``; raise ``ValueError`` if the windows do not tile."""
        return (grid_side("PixelShuffleConnector", num_patches, self.scale) // self.scale) ** 2

    def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B M D_out"]:
        """Map the tokens, in row-major order, to one for each window."""
        side = grid_side("PixelShuffleConnector", tokens.shape[1], self.scale) // self.scale
        windows = {"h": side, "w": side, "i": self.scale, "j": self.scale}
        return self.project(rearrange(tokens, "b (h i w j) d -> b (h w) (i j d)", **windows))
