"""Which samples form which batch: by arithmetic, so that any position can be resumed."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from lit_vlm.data.grouping import BatchGrouping
from lit_vlm.data.rows import ShuffledRows, Slot

__all__ = ["BatchSampler", "Slot", "TrainingOrder"]


class TrainingOrder:
    """The order of an epoch's samples, from the seed and the epoch alone.

    Args:
        num_samples: number of samples.
        seed: chooses all orders.
        groups: samples about the same image, if up to ``rounds`` of them are joined.
        rounds: most samples to join in one dialogue.
        lengths: a measure of each sample's length, if batches are to hold like lengths.
        global_batch_size: rows of a batch over all ranks; used with the one before and the last.
        samples: the samples to order; None for all.
        shows_images: whether each sample has an image, if batches are to hold only rows that do,
            or only others.
    """

    def __init__(
        self,
        num_samples: int,
        seed: int,
        groups: Sequence[Sequence[int]] | None = None,
        rounds: int = 1,
        lengths: NDArray[np.int64] | None = None,
        global_batch_size: int = 1,
        samples: Sequence[int] | None = None,
        shows_images: NDArray[np.bool_] | None = None,
    ) -> None:
        self.rows = ShuffledRows(range(num_samples) if samples is None else samples, groups, rounds)
        self.seed = seed
        self.grouping = BatchGrouping.of(global_batch_size, lengths, shows_images)

    def __call__(self, epoch: int) -> list[Slot]:
        """Return the rows of an epoch, in order; each sample is in exactly one."""
        random = np.random.default_rng([self.seed, epoch])
        slots = self.rows(random)
        return slots if self.grouping is None else self.grouping(slots, random)


class BatchSampler(DistributedSampler[list[Slot]]):
    """Yield whole batches of an epoch's order, from any position on.

    A global batch is cut from the order first and then shared out among ranks, so one process
    with batches of 8 and two with 4 see the same samples at each step. The last, shorter one is
    shared evenly; ranks left without a row repeat one that counts for nothing, so that all ranks
    make the same number of steps. It is a ``DistributedSampler`` so that Lightning leaves it be.

    Args:
        order: returns the rows of an epoch.
        batch_size: rows of a batch on one rank.
        num_replicas: number of ranks.
        rank: this rank.
        drop_last: leave the last, shorter batch out.
        position: batches that an earlier run has consumed, counted over all its epochs.
        epoch_length: batches of that run's epochs; None for those of a whole epoch.
        end: batches after which the epoch ends; each iteration is then this one epoch.

    Raises:
        ValueError: if there is not one batch.
    """

    def __init__(
        self,
        order: Callable[[int], Sequence[Slot]],
        batch_size: int,
        num_replicas: int = 1,
        rank: int = 0,
        drop_last: bool = False,
        position: int = 0,
        epoch_length: int | None = None,
        end: int | None = None,
    ) -> None:
        self.order = order
        self.batch_size = batch_size
        self.num_replicas = num_replicas
        self.rank = rank
        self.drop_last = drop_last
        rows, step = len(order(0)), batch_size * num_replicas
        self._length = rows // step if drop_last else -(-rows // step)
        if self._length == 0:
            raise ValueError(
                f"BatchSampler: there must be samples for one batch, got {rows} for "
                f"{num_replicas} x {batch_size}. Make batch_size smaller or set drop_last: false."
            )
        self.epoch, self._skip = divmod(position, epoch_length or self._length)
        self._one_epoch = end is not None
        self._length = min(self._length, end or self._length)
        self._begun = False

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, on this rank."""
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: each iteration is the next epoch.

        Lightning tells the epoch after worker processes have begun to load it, and counts an epoch
        that ``max_steps`` ended early as a whole one.
        """

    def __iter__(self) -> Iterator[list[Slot]]:
        """Yield this rank's batches of the first epoch from ``position`` on, then of the next."""
        if self._begun and not self._one_epoch:
            self.epoch += 1
            self._skip = 0
        self._begun = True
        slots = self.order(self.epoch)
        step = self.batch_size * self.num_replicas
        for start in range(self._skip * step, self._length * step, step):
            rows = slots[start : start + step]
            each = -(-len(rows) // self.num_replicas)
            mine = list(rows[self.rank * each : (self.rank + 1) * each])
            spare = Slot(rows[0].samples, repeated=True)
            yield mine + [spare] * (each - len(mine))
