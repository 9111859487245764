"""Which pictures form which batch, and in which epoch."""

from collections.abc import Iterator
from typing import NamedTuple

from lit_vlm.data.sampling import BatchSampler, Slot


class PicturePlaces(NamedTuple):
    """What a batch is made of.

    Attributes:
        indices: places of its pictures in the data set.
        epoch: the epoch, which chooses views and captions.
    """

    indices: tuple[int, ...]
    epoch: int


class PictureSampler(BatchSampler):
    """Yield this rank's batches of an epoch's order, with the number of the epoch.

    A rank's last batch may hold pictures twice, so that all ranks have batches of one size.
    """

    def __iter__(self) -> Iterator[PicturePlaces]:  # type: ignore[override]
        """Yield the batches of the first epoch from a position on, then of the next."""
        for slots in super().__iter__():
            yield PicturePlaces(tuple(slot.samples[0] for slot in slots), self.epoch)


class ShareSampler:
    """Yield batches of one rank's share of the pictures: in order, each on one rank only.

    Args:
        num_pictures: number of pictures on all ranks.
        batch_size: pictures of a batch.
        num_replicas: number of ranks.
        rank: this rank.
    """

    def __init__(
        self, num_pictures: int, batch_size: int, num_replicas: int = 1, rank: int = 0
    ) -> None:
        begin, end = (num_pictures * place // num_replicas for place in (rank, rank + 1))
        starts = range(begin, end, batch_size)
        self._batches = [tuple(range(i, min(i + batch_size, end))) for i in starts]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[PicturePlaces]:
        """Yield the batches."""
        return (PicturePlaces(indices, epoch=0) for indices in self._batches)


def in_order(num_pictures: int) -> list[Slot]:
    """Return the order of evaluation."""
    return [Slot((index,)) for index in range(num_pictures)]
