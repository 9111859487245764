"""A connector that lets the visual tokens attend to each other before they are projected."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.connectors.base import Connector
from lit_vlm.connectors.heads import resolve_heads


class TransformerConnector(Connector):
    """Put the visual tokens through ``depth`` CLIP blocks, a linear layer and a norm.

    A block lets patches exchange what they know after the encoder was frozen, and keeps a token for
    each: N tokens stay N. With ``depth=0`` it is a linear layer and a norm, DeepSpeed-VisualChat's
    ``baseline``; with ``depth=1`` its ``vit``.

    From 1024 to 4096 it costs 4.2 million parameters, and 12.6 million more for each block:
    ``(4 + 2 * mlp_ratio) * in_dim**2`` and smaller terms.

    Args:
        in_dim: width of the vision tokens and of the blocks.
        out_dim: width of the language model's embeddings.
        depth: number of blocks, 0 or more.
        num_heads: number of attention heads, a divisor of ``in_dim``; None for ``in_dim // 64``, or
            the next smaller number that divides it.
        mlp_ratio: width of a block's hidden layer, in widths of the block.
        activation: of the hidden layer; ``quick_gelu`` as in OpenAI's CLIP.

    Raises:
        ValueError: if ``depth`` is negative, ``num_heads`` does not divide ``in_dim``, the hidden
            layer has no width, or the activation is unknown.

    Source:
        DeepSpeed-VisualChat (Yao et al., 2023), https://arxiv.org/abs/2309.14327, whose code has
        these two; the block is that of CLIP (Radford et al., 2021).

    Example:
        >>> import torch
        >>> TransformerConnector(in_dim=8, out_dim=12)(torch.zeros(1, 15, 8)).shape
        torch.Size([1, 15, 12])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        depth: int = 1,
        num_heads: int | None = None,
        mlp_ratio: int | float = 4.0,
        activation: Literal["quick_gelu", "gelu"] = "quick_gelu",
    ) -> None:
        super().__init__(in_dim, out_dim)
        if depth < 0:
            raise ValueError(f"TransformerConnector: depth must be at least 0, got {depth}.")
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"TransformerConnector: activation must be one of {', '.join(_ACTIVATIONS)}, got "
                f"{activation!r}."
            )
        if not mlp_ratio * in_dim >= 1:
            raise ValueError(
                f"TransformerConnector: mlp_ratio must give a hidden layer of at least one unit, "
                f"got {mlp_ratio} for a width of {in_dim}. Give a larger ratio; CLIP's is 4."
            )
        heads = resolve_heads("TransformerConnector", in_dim, num_heads, head_dim=64)
        hidden = int(mlp_ratio * in_dim)
        self.blocks = nn.Sequential(
            *(_Block(in_dim, heads, hidden, _ACTIVATIONS[activation]()) for _ in range(depth))
        )
        self.project = nn.Linear(in_dim, out_dim)
        self.norm = nn.LayerNorm(out_dim, eps=1e-12)

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches``."""
        return num_patches

    def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B N D_out"]:
        """Mix the tokens, then project and norm each."""
        return self.norm(self.project(self.blocks(tokens)))


class _Block(nn.Module):
    """Attention and an MLP, each behind a norm and beside a residual connection."""

    def __init__(self, dim: int, num_heads: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), activation, nn.Linear(hidden, dim))

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        normed = self.norm1(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return tokens + self.mlp(self.norm2(tokens))


class _QuickGELU(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * torch.sigmoid(1.702 * inputs)


_ACTIVATIONS = {"quick_gelu": _QuickGELU, "gelu": nn.GELU}
