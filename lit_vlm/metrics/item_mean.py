"""The mean of a score over a data set's items, each counted once."""

from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torchmetrics import Metric

from lit_vlm.metrics.gathering import NOBODY, each_once, gather_padded


class ItemMean(Metric):
    """Mean over the items of a data set of one number each, such as correct or not.

    An item that several ranks or batches hold counts once.

    Example:
        >>> metric = ItemMean()
        >>> metric.update(torch.tensor([1.0, 0.0]), torch.tensor([0, 1]))
        >>> metric.update(torch.tensor([1.0, 1.0]), torch.tensor([0, 2]))
        >>> metric.compute(), metric.num_items
        (tensor(0.6667), 3)
    """

    is_differentiable = False
    full_state_update = False

    indices: Tensor
    scores: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dist_sync_fn": gather_padded, **kwargs})
        # One entry from the start: a rank without items must have something to gather.
        self.add_state("indices", torch.tensor([NOBODY]), dist_reduce_fx="cat")
        # The type is named, since half precisions change the default, which counts to 256 only.
        self.add_state("scores", torch.tensor([0.0], dtype=torch.float32), dist_reduce_fx="cat")

    def update(self, scores: Shaped[Tensor, "B"], indices: Int[Tensor, "B"]) -> None:
        """Add items.

        Args:
            scores: a number for each.
            indices: each item's place in the data set, not negative.
        """
        self.indices = torch.cat([self.indices, indices.to(self.device)])
        self.scores = torch.cat([self.scores, scores.to(self.device, torch.float32)])

    def compute(self) -> Tensor:
        """Return the mean; nan without items."""
        index, scores = each_once(self.indices, self.scores)
        self.num_items = len(index)
        return scores.mean()
