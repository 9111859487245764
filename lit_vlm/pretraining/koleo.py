"""Vectors kept apart from their nearest neighbours."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize, pairwise_distance

_EPSILON = 1e-8


def koleo_loss(vectors: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Return minus the mean logarithm of the distance to the nearest other vector of the batch.

    The smaller it is, the more evenly the directions of the vectors fill the sphere. It is computed
    in float32 over this rank's batch, and is 0 for a single vector, which has no neighbour.

    Args:
        vectors: vectors of any length; their directions count.

    Source:
        Kozachenko-Leonenko entropy: Sablayrolles et al. (2019), https://arxiv.org/abs/1806.03198.

    Example:
        >>> round(koleo_loss(torch.tensor([[3.0, 0.0], [0.0, 1.0]])).item(), 4)  # -ln(sqrt(2))
        -0.3466
    """
    if len(vectors) < 2:
        return vectors.float().sum() * 0
    with torch.autocast(vectors.device.type, enabled=False):
        directions = normalize(vectors.float(), dim=-1, eps=_EPSILON)
        with torch.no_grad():
            nearness = directions @ directions.T
            nearest = nearness.fill_diagonal_(-torch.inf).argmax(dim=1)
        distances = pairwise_distance(directions, directions[nearest], eps=_EPSILON)
        return -(distances + _EPSILON).log().mean()
