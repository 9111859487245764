"""Which source each row of a run is from."""

from collections.abc import Sequence
from fractions import Fraction
from heapq import heappop, heappush
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray


class MixtureRows:
    """Share rows out among sources, so that no source is ever a whole row from its share.

    After ``r`` rows, a source with the share ``s`` has had more than ``r s - 1`` and less than
    ``r s + 1`` of them, for every ``r`` and any number of sources; drawing sources at random is off
    by about the root of ``r``.

    A source's row ``k`` must be one of the rows from ``floor(k / s)`` on and before
    ``ceil((k + 1) / s)``. Of those that may come, the one that must come first is taken; as shares
    add up to one, that never fails. All is whole numbers, so no error adds up.

    Args:
        shares: of the sources, positive; they need not add up to one.

    Source:
        Proportionate progress (Baruah et al., 1996), https://doi.org/10.1007/BF01940883, with one
        resource; the question is the chairman assignment problem (Tijdeman, 1980),
        https://doi.org/10.1016/0012-365X(80)90269-1.

    Example:
        >>> MixtureRows([Fraction(3), Fraction(1)]).sources(0, 8).tolist()
        [0, 0, 0, 1, 0, 0, 0, 1]
    """

    def __init__(self, shares: Sequence[Fraction]) -> None:
        scale = lcm(*(share.denominator for share in shares))
        whole = [int(share * scale) for share in shares]
        common = gcd(*whole)
        self._weights = [weight // common for weight in whole]
        self._period = sum(self._weights)  # after which all sources have had their very shares
        self._begin_anew()

    def sources(self, begin: int, end: int) -> NDArray[np.int64]:
        """Return the numbers of the sources that some rows are from."""
        self._extend(min(end, self._period))
        if end <= self._period:
            return self._known[begin:end]
        return self._known[np.arange(begin, end) % self._period]

    def counts(self, row: int) -> list[int]:
        """Return how many of the rows before ``row`` are from each source."""
        periods, rest = divmod(row, self._period)
        self._extend(rest)
        counted = np.bincount(self._known[:rest], minlength=len(self._weights)).tolist()
        return [periods * w + count for w, count in zip(self._weights, counted, strict=True)]

    def _begin_anew(self) -> None:
        self._known = np.zeros(0, dtype=np.int64)
        self._done = [0] * len(self._weights)
        # Both hold a row and a source: the row before which it must come, or from which it may.
        self._may_come: list[tuple[int, int]] = []
        self._later = [(0, source) for source in range(len(self._weights))]

    def _extend(self, rows: int) -> None:
        added = []
        for row in range(len(self._known), rows):
            while self._later and self._later[0][0] <= row:
                _, source = heappop(self._later)
                due = -(-(self._done[source] + 1) * self._period // self._weights[source])
                heappush(self._may_come, (due, source))
            _, source = heappop(self._may_come)
            self._done[source] += 1
            begin = self._done[source] * self._period // self._weights[source]
            heappush(self._later, (begin, source))
            added.append(source)
        if added:
            self._known = np.concatenate([self._known, np.array(added, dtype=np.int64)])
