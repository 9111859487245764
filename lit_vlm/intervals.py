"""How sure a difference between two models is that were scored on the same items."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CELLS = 1 << 22  # numbers drawn at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference, and the interval that its true value lies in at some confidence."""

    value: float
    low: float
    high: float


def paired_bootstrap(
    differences: NDArray[np.float64],
    weights: NDArray[np.float64],
    clusters: NDArray[np.int64],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a weighted mean difference with its percentile interval, resampled by cluster.

    Questions about one image are not independent: taken for it, they make an interval too narrow.
    A cluster is therefore drawn as a whole. What both models find easy cancels item by item, so
    the interval is narrower than that of two separate scores.

    Args:
        differences: each item's score by one model minus its score by the other.
        weights: the items' denominators: the mean is ``sum(differences) / sum(weights)``.
        clusters: each item's cluster; see ``find_clusters``.
        confidence: share of such intervals that hold the true difference, below 1.
        resamples: draws with replacement.
        seed: chooses the draws.

    Raises:
        ValueError: if there are fewer clusters than ``fewest_clusters``.

    Source:
        An Introduction to the Bootstrap (Efron and Tibshirani, 1993), chapter 13.

    Example:
        >>> import numpy as np
        >>> ones = np.ones(50)
        >>> paired_bootstrap(np.arange(50.0) % 2, ones, np.arange(50))
        Interval(value=0.5, low=0.36, high=0.64)
    """
    _, place = np.unique(clusters, return_inverse=True)
    tops, bottoms = np.bincount(place, differences), np.bincount(place, weights)
    if len(tops) < fewest_clusters(confidence):
        raise ValueError(
            f"paired_bootstrap: there must be at least {fewest_clusters(confidence)} clusters at "
            f"the confidence {confidence}, got {len(tops)}. Score more items."
        )
    random = np.random.default_rng(seed)
    rows = max(1, _CELLS // len(tops))
    drawn = []
    for start in range(0, resamples, rows):
        size = (min(rows, resamples - start), len(tops))
        chosen = random.integers(0, len(tops), size)
        drawn.append(tops[chosen].sum(1) / bottoms[chosen].sum(1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return Interval(float(tops.sum() / bottoms.sum()), float(low), float(high))


def fewest_clusters(confidence: float) -> int:
    """Return how many clusters it takes to tell any difference from chance.

    With ``n`` clusters, two equal models differ in one direction in all of them with probability
    2 / 2**n; a bootstrap of fewer would call that certain.

    Example:
        >>> fewest_clusters(0.95)
        6
    """
    return math.ceil(math.log2(2 / (1 - confidence)))


def find_clusters(labels: Sequence[Sequence[Hashable]]) -> NDArray[np.int64]:
    """Return each item's cluster: items that share a label, directly or through others.

    Args:
        labels: each item's labels, e.g. the images it shows; an item without any is alone.

    Example:
        >>> find_clusters([["a"], ["b"], ["a", "c"], [], ["c"]]).tolist()
        [0, 1, 0, 3, 0]
    """
    parent = list(range(len(labels)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    for item, own in enumerate(labels):
        for label in own:
            one, other = root(item), root(first.setdefault(label, item))
            parent[max(one, other)] = min(one, other)
    return np.array([root(item) for item in range(len(labels))], dtype=np.int64)
