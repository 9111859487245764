"""How sure a mean over samples is."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lit_vlm.intervals import Interval, fewest_clusters, find_clusters, paired_bootstrap
from lit_vlm.proportions import wilson_interval

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class MeanInterval:
    """An interval of 95 %, and how it was made.

    Attributes:
        interval: None if nothing can be told.
        method: ``wilson`` or ``bootstrap``.
        groups: how many groups of samples share no image.
    """

    interval: Interval | None
    method: Literal["wilson", "bootstrap"]
    groups: int


def mean_interval(
    scores: Sequence[float], labels: Sequence[Sequence[Hashable]], is_share: bool = True
) -> MeanInterval:
    """Return how sure the mean of some scores is.

    It is Wilson's if all samples are right or wrong, and none shares an image with another.
    Otherwise groups of samples that share an image are drawn with replacement. Where that cannot
    tell anything, since all are right or all are wrong, it is Wilson's of the groups.

    Args:
        scores: of the samples, at least one.
        labels: each sample's images.
        is_share: whether scores lie between 0 and 1, which Wilson's interval is for.

    Example:
        >>> mean_interval([1.0] * 10, [[]] * 10)
        MeanInterval(interval=Interval(value=1.0, low=0.722..., high=1.0), method='wilson',
                     groups=10)
    """
    values = np.asarray(scores, dtype=np.float64)
    clusters = find_clusters(labels)
    groups = len(np.unique(clusters))
    if is_share and np.isin(values, (0, 1)).all():
        share = float(values.mean())
        if groups == len(values) or share in (0.0, 1.0):
            return MeanInterval(wilson_interval(round(share * groups), groups), "wilson", groups)
    return MeanInterval(_drawn(values, clusters, groups), "bootstrap", groups)


def _drawn(
    values: NDArray[np.float64], clusters: NDArray[np.int64], groups: int
) -> Interval | None:
    if groups < fewest_clusters(_CONFIDENCE) or np.ptp(values) == 0:
        return None
    return paired_bootstrap(values, np.ones_like(values), clusters, _CONFIDENCE)
