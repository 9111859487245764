"""How a teacher's targets are spread over the prototypes."""

import torch
from jaxtyping import Float
from torch import Tensor

from lit_vlm.pretraining.rank_sums import sum_over_ranks


def entropies(targets: Float[Tensor, "B K"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the mean entropy of the rows, and the entropy of the mean row of all ranks, in nats.

    The latter is never smaller. Their difference is what a target tells about which row it is of:
    0 if all rows are alike.

    Args:
        targets: distributions over K prototypes, equally many on each rank.

    Example:
        >>> each, marginal = entropies(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> each.item(), round(marginal.item(), 3)
        (0.0, 0.693)
    """
    total = sum_over_ranks(torch.cat([targets.sum(dim=0), targets.new_full((1,), len(targets))]))
    mean = total[:-1] / total[-1]
    return _entropy(targets).mean(), _entropy(mean)


def _entropy(shares: Float[Tensor, "*B K"]) -> Float[Tensor, "*B"]:
    return torch.special.entr(shares).sum(dim=-1)
