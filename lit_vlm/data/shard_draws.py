"""Which samples a worker reads of shards that are drawn with replacement: by arithmetic."""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

_CHUNK = 1024
"""Draws that are made, or passed over, at once."""


def drawn_shards(
    counts: Sequence[int], key: Sequence[int], begin: int
) -> Iterator[tuple[int, int]]:
    """Yield shards drawn with replacement, for ever, each with the first sample to read of it.

    Shards are read whole, so that samples are drawn equally often whatever their shard's size.

    Args:
        counts: samples of each shard.
        key: chooses the draws.
        begin: samples of this sequence to pass over.
    """
    numbers = np.array(counts, dtype=np.int64)
    for chunk in count():
        shards = np.random.default_rng([*key, chunk]).integers(len(numbers), size=_CHUNK)
        ends = np.cumsum(numbers[shards])
        first = int(np.searchsorted(ends, begin, side="right"))
        for place in range(first, _CHUNK):
            shard = int(shards[place])
            yield shard, max(0, begin - int(ends[place] - numbers[shard]))
        begin = max(0, begin - int(ends[-1]))


def shuffled(items: Iterator[Item], size: int, key: Sequence[int], begin: int) -> Iterator[Item]:
    """Yield items of an endless sequence, each ``size`` of them in another order.

    Args:
        items: the sequence, from the block on that holds the item ``begin``.
        size: items of a block.
        key: chooses the orders.
        begin: items to pass over, counted from the sequence's beginning.
    """
    first, skip = divmod(begin, size)
    for block in count(first):
        held = list(islice(items, size))
        order = np.random.default_rng([*key, block]).permutation(size)
        for place in order[skip:].tolist():
            yield held[place]
        skip = 0
        held.clear()  # before the next are read
