"""A teacher's scores to targets that cannot collapse onto a few prototypes."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.pretraining.rank_sums import max_over_ranks, sum_over_ranks


class TeacherTargets(nn.Module, ABC):
    """Turn a teacher's scores of prototypes into probabilities, spread over the prototypes."""

    @abstractmethod
    def forward(
        self, scores: Float[Tensor, "B K"], temperature: int | float
    ) -> Float[Tensor, "B K"]:
        """Return a distribution over the prototypes for each row; all ranks must call it alike."""

    def end_step(self) -> None:
        """Learn from the scores since the last optimizer step; all ranks must call it alike."""


class Centring(TeacherTargets):
    """Subtract a running mean of the teacher's scores, then take the softmax.

    A prototype that scores high for everything loses its lead. The mean is over all ranks, moves
    once per optimizer step, and starts at 0.

    Args:
        num_prototypes: number K of prototypes.
        momentum: share of the old mean that a step keeps; 1 leaves it at 0, that is, switches
            centring off.

    Source:
        DINO (Caron et al., 2021), https://arxiv.org/abs/2104.14294. In DINOv2's code ranks count
        alike in the mean for patches; here every patch does.
    """

    center: Tensor

    def __init__(self, num_prototypes: int, momentum: int | float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(num_prototypes))
        self._seen: Tensor | None = None

    def forward(
        self, scores: Float[Tensor, "B K"], temperature: int | float
    ) -> Float[Tensor, "B K"]:
        """Return the softmax of the centred scores, and remember them for the next centre."""
        scores = scores.detach().float()
        count = scores.new_full((1,), len(scores))
        seen = torch.cat([scores.sum(dim=0), count])
        self._seen = seen if self._seen is None else self._seen + seen
        return ((scores - self.center) / temperature).softmax(dim=-1)

    def end_step(self) -> None:
        """Move the centre towards the mean of the scores since the last step."""
        if self._seen is None:
            return
        *_, count = seen = sum_over_ranks(self._seen)
        self._seen = None
        mean = seen[:-1] / count.clamp(min=1)
        self.center.lerp_(mean, (1 - self.momentum) * (count > 0))


class SinkhornKnopp(TeacherTargets):
    """Assign the rows of all ranks to the prototypes so that each prototype gets an equal share.

    Args:
        iterations: how often prototypes and rows are normalised in turn.

    Source:
        SwAV (Caron et al., 2020), https://arxiv.org/abs/2006.09882; DINOv2 takes 3 iterations.
    """

    def __init__(self, iterations: int = 3) -> None:
        super().__init__()
        self.iterations = iterations

    def forward(
        self, scores: Float[Tensor, "B K"], temperature: int | float
    ) -> Float[Tensor, "B K"]:
        """Return the assignment; each row of it sums to 1."""
        scaled = scores.detach().float() / temperature
        highest = scaled.max() if len(scaled) else scaled.new_tensor(-torch.inf)
        # A common factor cancels out; without it a high score would overflow.
        shares = (scaled - max_over_ranks(highest)).exp()
        for _ in range(self.iterations):
            of_prototypes = sum_over_ranks(shares.sum(dim=0))
            shares = shares / of_prototypes.clamp(min=torch.finfo(shares.dtype).tiny)
            shares = shares / shares.sum(dim=1, keepdim=True)
        return shares
