"""The order in which a data module reads its training samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from lit_vlm.data.grouping import BatchGrouping
from lit_vlm.data.mixture import Mixture
from lit_vlm.data.mixture_order import MixtureOrder
from lit_vlm.data.rows import ShuffledRows
from lit_vlm.data.sampling import TrainingOrder


@dataclass(frozen=True, slots=True)
class Ordering:
    """How training samples are put in order, beside the sources' shares.

    Attributes:
        seed: chooses all orders.
        global_batch_size: rows of a batch over all ranks.
        drop_last: whether a pass's last, shorter batch is left out.
        limit: most batches of a pass, or the share of them that the trainer takes.
        groups: samples about the same image, if up to ``rounds`` of them are joined.
        rounds: most samples to join in one row.
        lengths: a measure of each sample's length, if batches are to hold like lengths.
        shows_images: whether each sample has an image, if batches are to hold those or others.
    """

    seed: int
    global_batch_size: int
    drop_last: bool = False
    limit: int | float = 1.0
    groups: Sequence[Sequence[int]] | None = None
    rounds: int = 1
    lengths: NDArray[np.int64] | None = None
    shows_images: NDArray[np.bool_] | None = None

    def batches(self, rows: int) -> int:
        """Return how many batches of a pass of so many rows are read."""
        step = self.global_batch_size
        batches = rows // step if self.drop_last else -(-rows // step)
        limit = self.limit
        return min(batches, limit) if isinstance(limit, int) else int(batches * limit)

    def taken(self, rows: int) -> int:
        """Return how many rows of a pass of so many are read."""
        return min(rows, self.batches(rows) * self.global_batch_size)


def training_order(
    mixture: Mixture, samples: Sequence[Sequence[int]], how: Ordering, first: int = 0
) -> TrainingOrder | MixtureOrder:
    """Return the order of a run's samples, or of a stage's.

    Args:
        mixture: which sources are read.
        samples: those of each source that is read.
        how: how they are put in order.
        first: the epoch in which a stage begins.
    """
    if not mixture.is_weighted:
        return TrainingOrder(
            0,
            how.seed,
            how.groups,
            how.rounds,
            how.lengths,
            how.global_batch_size,
            samples[0] if len(samples) == 1 else list(chain.from_iterable(samples)),
            how.shows_images,
        )
    parts = [ShuffledRows(part, how.groups, how.rounds) for part in samples]
    sizes = [len(part) for part in parts]
    return MixtureOrder(
        dict(zip(mixture.places, parts, strict=True)),
        mixture.shares(sizes),
        how.seed,
        how.taken(sum(sizes)),
        first,
        BatchGrouping.of(how.global_batch_size, how.lengths, how.shows_images),
    )
