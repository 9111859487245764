"""A layer in which a few latents read a long context."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PerceiverLayer(nn.Module):
    """Let the latents attend to the context and to themselves, then put each through an MLP.

    Both steps add to the latents, both norm their input first, and no linear layer has a bias.

    Args:
        dim: width of context and latents.
        num_heads: number of attention heads, a divisor of ``dim``.

    Source:
        Flamingo (Alayrac et al., 2022), https://arxiv.org/abs/2204.14198, as IDEFICS (Laurençon et
        al., 2023), https://arxiv.org/abs/2306.16527, has it: an MLP of ratio 4 with ReLU.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm_context = nn.LayerNorm(dim)
        self.norm_latents = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, num_heads, bias=False, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, 4 * dim, bias=False),
            nn.ReLU(),
            nn.Linear(4 * dim, dim, bias=False),
        )

    def forward(
        self, latents: Float[Tensor, "B M D"], context: Float[Tensor, "B N D"]
    ) -> Float[Tensor, "B M D"]:
        """Return the updated latents."""
        queries = self.norm_latents(latents)
        seen = torch.cat([self.norm_context(context), queries], dim=1)
        latents = latents + self.attention(queries, seen, seen, need_weights=False)[0]
        return latents + self.mlp(latents)
