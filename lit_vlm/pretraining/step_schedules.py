"""Numbers that change over a run, by the step alone."""

import math


def cosine_between(start: int | float, end: int | float, step: int, total: int | float) -> float:
    """Return a number that goes from ``start`` to ``end`` in half a cosine.

    It stays at ``start`` in a run of which nobody knows the end.

    Example:
        >>> [round(cosine_between(0.9, 1.0, step, 10), 3) for step in (0, 5, 10)]
        [0.9, 0.95, 1.0]
    """
    progress = min(1.0, step / total) if total else 1.0
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def rising(start: int | float, end: int | float, step: int, over: int) -> float:
    """Return a number that goes from ``start`` to ``end`` in a line over some steps, and stays."""
    return start + (end - start) * (min(1.0, step / over) if over else 1.0)


def in_steps(steps_or_share: int | float, total: int | float) -> int:
    """Return steps (an integer), or a share of a run (a float), as steps.

    A share of a run of which nobody knows the end is 0.
    """
    if isinstance(steps_or_share, int):
        return steps_or_share
    return 0 if math.isinf(total) else round(steps_or_share * total)
