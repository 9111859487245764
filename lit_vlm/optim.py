"""Parameter groups and learning-rate schedules."""

import math
from typing import Any, Literal

from torch import nn

Schedule = Literal["cosine", "linear", "constant"]


def parameter_groups(parts: dict[str, nn.Module], weight_decay: float) -> list[dict[str, Any]]:
    """Group parameters by part, matrices apart from the rest, which does not decay.

    Every parameter of every part is in exactly one group, frozen ones too: an optimizer skips
    what has no gradient, and parts can thaw later without a new group. A tensor that two parts
    share stands with the first.

    Args:
        parts: modules by name, in order.
        weight_decay: decay of matrices (tensors of two and more axes).

    Returns:
        Groups with ``params``, ``weight_decay``, ``part`` and a ``name`` of their own.
    """
    groups = []
    seen: set[int] = set()
    for part, module in parts.items():
        fresh = [p for p in module.parameters() if id(p) not in seen]
        seen |= {id(p) for p in fresh}
        for kind, decay in (("matrices", weight_decay), ("vectors", 0.0)):
            params = [p for p in fresh if (p.ndim >= 2) == (kind == "matrices")]
            if params:
                name = f"{part}.{kind}"
                groups.append({"params": params, "weight_decay": decay, "part": part, "name": name})
    return groups


def schedule_factor(
    step: int, total: int, warmup: int | float, schedule: Schedule, floor: float = 0.0
) -> float:
    """Return what the learning rate is multiplied by at a step.

    It rises in a line over the warm-up and falls from 1 to ``floor`` over the rest. It depends on
    nothing but its arguments, so a resumed run needs no scheduler state, and obeys a new plan.

    Args:
        step: optimizer steps done so far.
        total: optimizer steps of the whole run.
        warmup: steps (an integer), or share of ``total`` (a float below 1).
        schedule: shape after the warm-up.
        floor: factor at the end.

    Example:
        >>> [round(schedule_factor(s, 10, 2, "linear"), 3) for s in (0, 1, 2, 6, 10)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    steps = round(warmup * total) if isinstance(warmup, float) else warmup
    if step < steps:
        return (step + 1) / steps
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - steps) / max(1, total - steps))
    fall = (1 + math.cos(math.pi * progress)) / 2 if schedule == "cosine" else 1 - progress
    return floor + (1 - floor) * fall
