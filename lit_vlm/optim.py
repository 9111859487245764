"""Parameter groups and learning-rate schedules."""

import fnmatch
import math
import re
from collections.abc import Collection
from typing import Any, Literal

from torch import Tensor, nn

Schedule = Literal["cosine", "linear", "constant"]

_NORM = re.compile(r"norm\d*$")
_UNDECAYED = re.compile(
    r"""
    \b(absolute_|abs_|rel_|relative_)?pos(ition(al)?)?_?(emb|bias)  # pos_embed, position_embedding
    | \bembed_positions\b | \bwpe\b | \brel_pos | \brelative_attention_bias\b
    | \b(cls|class|dist|distillation|reg|register|mask)_(token|emb)
    | \bregisters\b
    | \blogit_(scale|bias)\b | temperature
    """,
    re.VERBOSE,
)


def parameter_groups(parts: dict[str, nn.Module], weight_decay: float) -> list[dict[str, Any]]:
    """Group parameters by part, what decays apart from the rest; see ``decays``.

    Every parameter of every part is in exactly one group, frozen ones too: an optimizer skips
    what has no gradient, and parts can thaw later without a new group. A tensor that two parts
    share stands with the first.

    Args:
        parts: modules by name, in order.
        weight_decay: decay of matrices.

    Returns:
        Groups with ``params``, ``weight_decay``, ``part`` and a ``name`` of their own.
    """
    groups = []
    seen: set[int] = set()
    for part, module in parts.items():
        exempt = exempt_from_decay(module)
        fresh = [(name, p) for name, p in module.named_parameters() if id(p) not in seen]
        seen |= {id(p) for _, p in fresh}
        for kind, decay in (("decay", weight_decay), ("no_decay", 0.0)):
            params = [p for name, p in fresh if decays(name, p, exempt) == (kind == "decay")]
            if params:
                name = f"{part}.{kind}"
                groups.append({"params": params, "weight_decay": decay, "part": part, "name": name})
    return groups


def decays(name: str, parameter: Tensor, exempt: Collection[str] = ()) -> bool:
    """Whether weight decay is meant for a parameter: for matrices and kernels alone.

    Not for norms, biases and whatever else has fewer than two axes, nor for embeddings of
    positions, class, register and mask tokens, and temperatures, whatever their shape.

    Args:
        name: dotted name.
        parameter: the tensor.
        exempt: names or patterns that do not decay, from ``exempt_from_decay``.

    Example:
        >>> import torch
        >>> matrix = torch.zeros(4, 4)
        >>> decays("blocks.0.fc.weight", matrix), decays("position_embedding.weight", matrix)
        (True, False)
    """
    if parameter.ndim < 2 or any(fnmatch.fnmatchcase(name, pattern) for pattern in exempt):
        return False
    *outer, last = name.split(".")
    inner = outer[-1] if outer else ""
    return not (last == "bias" or _NORM.search(inner) or _UNDECAYED.search(f"{inner}.{last}"))


def exempt_from_decay(module: nn.Module) -> set[str]:
    """Return the names that networks inside a module list themselves (``no_weight_decay``)."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, inner in module.named_modules()
        if callable(listed := getattr(inner, "no_weight_decay", None))
        for name in listed()
    }


def steps_or_share(warmup: int | float, asked_by: str) -> int | float:
    """Return a warm-up as an integer of steps, or a float below 1 that is a share.

    Whole floats above 1 are steps: a parser may read ``500`` as the one or the other.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(warmup, float) and warmup > 1 and warmup.is_integer():
        return int(warmup)
    if warmup < 0 or (isinstance(warmup, float) and warmup >= 1):
        raise ValueError(
            f"{asked_by}: warmup must be a number of steps or a share below 1, got {warmup}."
        )
    return warmup


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
