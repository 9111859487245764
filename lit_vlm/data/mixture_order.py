"""The order of a run that mixes sources by weights."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from lit_vlm.data.grouping import BatchGrouping
from lit_vlm.data.mixture_rows import MixtureRows
from lit_vlm.data.rows import ShuffledRows, Slot


class MixtureOrder:
    """Cut the passes of a run from one stream of rows, in which sources have their shares.

    A row is a function of its place in the stream: the place says of which source it is, and how
    many rows of that source come before it. Each source is read in passes of its own, shuffled anew
    each time, so none of its samples comes again before all have come; a source that is small for
    its share begins anew within a pass of the run, a large one goes on where the pass before ended.

    Args:
        sources: the rows of each source, by a number that, with ``seed``, chooses their orders.
        shares: of the sources, in the same order; they need not add up to one.
        seed: chooses all orders.
        advance: rows that a pass of the run takes; None for as many as the sources have together.
            What a sampler or the trainer leaves out of a pass then comes in the next one.
        first: the epoch in which the stream begins; streams that begin elsewhere differ.
        grouping: changes the places of a pass's rows; None to leave them.
    """

    def __init__(
        self,
        sources: Mapping[int, ShuffledRows],
        shares: Sequence[Fraction],
        seed: int,
        advance: int | None = None,
        first: int = 0,
        grouping: BatchGrouping | None = None,
    ) -> None:
        self.sources = dict(sources)
        self.mixed = MixtureRows(shares)
        self.seed = seed
        self.rows = sum(len(rows) for rows in self.sources.values())
        self.advance = self.rows if advance is None else advance
        self.first = first
        self.grouping = grouping
        self._latest: dict[int, tuple[int, list[Slot]]] = {}

    def __call__(self, epoch: int) -> list[Slot]:
        """Return the rows of an epoch, in order."""
        return self._grouped(epoch, self._rows(epoch))

    def counts(self, epoch: int, rows: int) -> list[int]:
        """Return how many rows of each source come before and among some rows of an epoch."""
        begin = self._pass(epoch) * self.advance
        if self.grouping is None or rows >= self.advance:
            return self.mixed.counts(begin + rows)
        counts = self.mixed.counts(begin)
        slots = self._rows(epoch)
        which = self.mixed.sources(begin, begin + self.rows).tolist()
        source_of = {slot.samples: source for slot, source in zip(slots, which, strict=True)}
        for slot in self._grouped(epoch, slots)[:rows]:
            counts[source_of[slot.samples]] += 1
        return counts

    def _pass(self, epoch: int) -> int:
        # Samplers look at epoch 0 for the number of rows.
        return max(epoch - self.first, 0)

    def _rows(self, epoch: int) -> list[Slot]:
        begin = self._pass(epoch) * self.advance
        which = self.mixed.sources(begin, begin + self.rows)
        wanted = np.bincount(which, minlength=len(self.sources)).tolist()
        parts = [
            iter(self._of_source(source, count, wanted[place]))
            for place, (source, count) in enumerate(
                zip(self.sources, self.mixed.counts(begin), strict=True)
            )
        ]
        return [next(parts[place]) for place in which.tolist()]

    def _of_source(self, source: int, begin: int, count: int) -> list[Slot]:
        """Return some rows of a source's own stream."""
        slots: list[Slot] = []
        while len(slots) < count:
            number, at = divmod(begin + len(slots), len(self.sources[source]))
            slots += self._shuffled(source, number)[at : at + count - len(slots)]
        return slots

    def _shuffled(self, source: int, number: int) -> list[Slot]:
        known, slots = self._latest.get(source, (-1, []))
        if known != number:
            # Seeds are filled up with zeros: those of sources must differ from those of groupings.
            random = np.random.default_rng([self.seed, self.first, source + 1, number])
            slots = self.sources[source](random)
            self._latest[source] = (number, slots)
        return slots

    def _grouped(self, epoch: int, slots: list[Slot]) -> list[Slot]:
        if self.grouping is None:
            return slots
        random = np.random.default_rng([self.seed, self.first, 0, self._pass(epoch)])
        # What a pass does not take stays behind, since the next one begins with it.
        taken, left = slots[: self.advance], slots[self.advance :]
        return self.grouping(taken, random) + left
