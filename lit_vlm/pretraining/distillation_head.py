"""From features to scores of prototypes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


class DistillationHead(nn.Module):
    """Score prototypes by an MLP of three layers, whose narrow output has length 1.

    It works in float32 whatever precision the features come in: a softmax over thousands of
    prototypes at a temperature of 0.04 turns the rounding of bfloat16 into other targets.

    Args:
        in_dim: width of the features.
        num_prototypes: number K of prototypes.
        hidden_dim: width of the MLP.
        bottleneck_dim: width of its output.

    Source:
        DINOv2 (Oquab et al., 2023), https://arxiv.org/abs/2304.07193, with 65,536 prototypes, a
        width of 2048 and a bottleneck of 256.

    Example:
        >>> head = DistillationHead(in_dim=16, num_prototypes=64, hidden_dim=32, bottleneck_dim=8)
        >>> head(torch.zeros(5, 16)).shape
        torch.Size([5, 64])
    """

    def __init__(
        self, in_dim: int, num_prototypes: int, hidden_dim: int, bottleneck_dim: int
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(in_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, bottleneck_dim),
        )
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.prototypes = Prototypes(bottleneck_dim, num_prototypes)

    def forward(self, features: Float[Tensor, "*B D"]) -> Float[Tensor, "*B K"]:
        """Return the scores of the prototypes, in float32."""
        with torch.autocast(features.device.type, enabled=False):
            narrow = self.mlp(features.to(self.prototypes.scale.dtype))
            return self.prototypes(normalize(narrow, dim=-1)).float()


class Prototypes(nn.Module):
    """A linear layer without bias whose rows are directions and lengths apart, the lengths 1 first.

    Args:
        in_dim: width of the vectors.
        num_prototypes: number K of rows.

    Source:
        Weight normalisation (Salimans & Kingma, 2016), https://arxiv.org/abs/1602.07868.
    """

    def __init__(self, in_dim: int, num_prototypes: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(nn.Linear(in_dim, num_prototypes, bias=False).weight.data)
        self.scale = nn.Parameter(torch.ones(num_prototypes))

    def forward(self, vectors: Float[Tensor, "*B D"]) -> Float[Tensor, "*B K"]:
        """Return the product with each prototype."""
        return linear(vectors, normalize(self.directions, dim=1)) * self.scale
