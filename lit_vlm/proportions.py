"""How sure a share of right answers is."""

import math
from statistics import NormalDist

from lit_vlm.intervals import Interval


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """Return a share with Wilson's interval, which holds also near 0 and 1 and for few samples.

    Args:
        correct: how many are right.
        total: of how many, which do not depend on each other.
        confidence: share of such intervals that hold the true share, below 1.

    Raises:
        ValueError: if there is nothing to count, or more is right than there is.

    Source:
        Probable inference, the law of succession, and statistical inference (Wilson, 1927),
        https://doi.org/10.1080/01621459.1927.10502953.

    Example:
        >>> wilson_interval(10, 10)
        Interval(value=1.0, low=0.722..., high=1.0)
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(
            f"wilson_interval: correct must lie between 0 and total, which must be at least 1, "
            f"got {correct} of {total}."
        )
    share, z = correct / total, NormalDist().inv_cdf((1 + confidence) / 2)
    middle = share + z**2 / (2 * total)
    reach = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    low, high = ((middle + sign * reach) / (1 + z**2 / total) for sign in (-1, 1))
    # At the ends rounding would leave the share itself outside.
    return Interval(share, max(0.0, min(low, share)), min(1.0, max(high, share)))
