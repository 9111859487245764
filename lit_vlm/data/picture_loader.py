"""Loaders of pictures that can be resumed, and that write down what they passed over."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils.data import Dataset

from lit_vlm.data.image_batches import SkippedPicture
from lit_vlm.data.loaders import BatchLoader
from lit_vlm.data.pair_stream import PairLoader

Record = Callable[[Sequence[SkippedPicture]], None]


class PictureLoader(BatchLoader):
    """Yield batches, and hand on which pictures could not be read.

    Args:
        dataset: makes batches.
        sampler: says of what.
        record: takes the pictures that were passed over.
        num_workers: processes that read beside this one; 0 to read in this one.
        seed: seed of the workers' own random numbers.
        pin_memory: whether batches are put where a GPU copies from fast.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        sampler: Any,
        record: Record,
        num_workers: int = 0,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(
            dataset,
            sampler=sampler,
            batch_size=None,  # the data set makes whole batches
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=pin_memory,
            # Without its own, each new iterator draws from the generator that dropout draws from.
            generator=torch.Generator().manual_seed(seed),
        )
        self.record = record

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches that hold anything."""
        for batch in super().__iter__():
            if batch.skipped:
                self.record(batch.skipped)
            if len(batch):
                yield batch


class StreamLoader:
    """Yield the batches of a stream, as a ``PictureLoader`` does.

    Args:
        batches: the stream's loader.
        record: takes the pictures that were passed over.
        begin: batches of the first epoch that ``batches`` passes over.
        end: batches after which an epoch ends; None for all.
    """

    def __init__(
        self, batches: PairLoader, record: Record, begin: int = 0, end: int | None = None
    ) -> None:
        self.batches = batches
        self.record = record
        self.begin = begin
        self.end = end

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.batches) if self.end is None else min(self.end, len(self.batches))

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of the next epoch."""
        left = None if self.end is None else self.end - self.begin
        for batch in islice(self.batches, left):
            if batch.skipped:
                self.record(batch.skipped)
            if len(batch):
                yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the data module keeps the position."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: the loader was made at the right position."""
