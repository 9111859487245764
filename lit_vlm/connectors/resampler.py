"""A connector whose learned queries read the visual tokens."""

from math import isqrt
from pathlib import Path
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.connectors.base import Connector
from lit_vlm.connectors.heads import resolve_heads
from lit_vlm.connectors.held_connector import load_connector, without_pretrained
from lit_vlm.connectors.perceiver import PerceiverLayer
from lit_vlm.connectors.positions import grid_side, sincos_positions
from lit_vlm.positions import interpolate_positions


class CrossAttentionResampler(Connector):
    """Read any square grid of visual tokens by ``num_queries`` learned queries.

    The language model sees ``num_queries`` tokens at every resolution: Qwen-VL reads 256 tokens
    from the 1024 patches of 448 px as from the 256 of 224 px. Queries and patches get fixed sincos
    positions, resampled to the grid of the patches; they are a buffer, no parameter trains them.

    With ``depth=1`` it is Qwen-VL's resampler: a single cross attention, without a residual
    connection and without an MLP. With more, as many ``PerceiverLayer`` take its place, in which
    the queries, too, are attended to. A norm and a linear layer end both.

    It costs 89.2 million parameters from 1024 to 4096 at ``depth=1``: ``in_dim * out_dim + 5 *
    out_dim**2`` and smaller terms. Each layer of a deeper one has ``12 * out_dim**2`` and more.

    Args:
        in_dim: width of the vision tokens.
        out_dim: width of the language model's embeddings, a multiple of 4.
        num_queries: number of tokens for the language model, the square of a whole number.
        num_heads: number of attention heads, a divisor of ``out_dim``; None for ``out_dim // 128``,
            or the next smaller number that divides it.
        depth: number of layers, at least 1.
        project_out: end with the linear layer; DeepSpeed-VisualChat takes Qwen-VL's resampler
            without it.
        pretrained: a checkpoint (``.ckpt``) of a run of this library, whose connector is taken;
            None for random weights.

    Raises:
        ValueError: if ``depth`` is less than 1, ``out_dim`` is no multiple of 4 or of
            ``num_heads``, queries or vision tokens form no square grid, or weights do not fit.

    Source:
        Qwen-VL (Bai et al., 2023), https://arxiv.org/abs/2308.12966; its code has no ``W_kv`` where
        the widths are equal. Deeper: the resampler of Flamingo (Alayrac et al., 2022),
        https://arxiv.org/abs/2204.14198, between the same projections, with the same positions.

    Example:
        >>> import torch
        >>> connector = CrossAttentionResampler(in_dim=8, out_dim=12, num_queries=4)
        >>> connector(torch.zeros(1, 16, 8)).shape, connector(torch.zeros(1, 49, 8)).shape
        (torch.Size([1, 4, 12]), torch.Size([1, 4, 12]))
    """

    positions: Tensor

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_queries: int = 256,
        num_heads: int | None = None,
        depth: int = 1,
        project_out: bool = True,
        pretrained: str | Path | None = None,
    ) -> None:
        super().__init__(in_dim, out_dim)
        if depth < 1:
            raise ValueError(f"CrossAttentionResampler: depth must be at least 1, got {depth}.")
        heads = resolve_heads("CrossAttentionResampler", out_dim, num_heads, head_dim=128)
        table = sincos_positions(_checked_width(out_dim), _query_side(num_queries))
        self.register_buffer("positions", table, persistent=False)
        self.num_queries = num_queries
        self.queries = nn.Parameter(torch.empty(num_queries, out_dim))
        self.norm_queries = nn.LayerNorm(out_dim, eps=1e-6)
        self.project_in = nn.Linear(in_dim, out_dim, bias=False)
        self.norm_in = nn.LayerNorm(out_dim, eps=1e-6)
        if depth == 1:
            self.attention = nn.MultiheadAttention(out_dim, heads, batch_first=True)
            nn.init.trunc_normal_(self.attention.out_proj.weight, std=0.02)
        layers = depth if depth > 1 else 0
        self.layers = nn.ModuleList(PerceiverLayer(out_dim, heads) for _ in range(layers))
        self.norm_out = nn.LayerNorm(out_dim, eps=1e-6)
        self.project_out: Any = nn.Identity()
        if project_out:
            self.project_out = nn.Linear(out_dim, out_dim, bias=False)
        nn.init.trunc_normal_(self.queries, std=0.02)
        nn.init.trunc_normal_(self.project_in.weight, std=0.02)
        if project_out:
            nn.init.normal_(self.project_out.weight, std=out_dim**-0.5)
        load_connector(self, pretrained, droppable="project_out")

    def rebuild_config(self) -> dict[str, Any]:
        """Name the sizes; the weights come from the checkpoint."""
        return without_pretrained(super().rebuild_config())

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_queries``; raise ``ValueError`` if the patches form no square grid."""
        grid_side("CrossAttentionResampler", num_patches)
        return self.num_queries

    def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B M D_out"]:
        """Let the queries read the tokens, which are in row-major order."""
        side = grid_side("CrossAttentionResampler", tokens.shape[1])
        queries = self.norm_queries(self.queries) + self.positions
        latents = repeat(queries, "m d -> b m d", b=tokens.shape[0])
        values = self.norm_in(self.project_in(tokens))
        placed = values + interpolate_positions(self.positions, (side, side))
        if self.layers:
            for layer in self.layers:
                latents = layer(latents, placed)
        else:
            latents = self.attention(latents, placed, values, need_weights=False)[0]
        return self.project_out(self.norm_out(latents))


def _checked_width(out_dim: int) -> int:
    if out_dim % 4:
        raise ValueError(
            f"CrossAttentionResampler: out_dim must be a multiple of 4, for the sines and cosines "
            f"of two coordinates, got {out_dim}. Take a language model of another width."
        )
    return out_dim


def _query_side(num_queries: int) -> int:
    side = isqrt(max(num_queries, 1))
    if side**2 != num_queries:
        raise ValueError(
            f"CrossAttentionResampler: num_queries must be the square of a whole number, got "
            f"{num_queries}. Take {side**2} or {(side + 1) ** 2}."
        )
    return side
