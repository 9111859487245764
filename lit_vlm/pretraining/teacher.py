"""A teacher that follows its student."""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

from lit_vlm.freezing import freeze

Module = TypeVar("Module", bound=nn.Module)


def as_teacher(module: Module) -> Module:
    """Return the module frozen: no gradient, and evaluation mode that survives ``train()``."""
    freeze(module)
    module.moves_without_gradient = True  # type: ignore[assignment]  # for TrainableReport, which watches what is frozen
    return module


def teacher_of(student: Module) -> Module:
    """Return a frozen copy."""
    return as_teacher(deepcopy(student))


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: int | float) -> None:
    """Move a teacher's weights towards its student's: ``momentum`` of the old ones stays.

    Running statistics, such as BatchNorm's, move likewise, since the teacher itself only
    evaluates; integers are copied.

    Args:
        teacher: a module of the student's shape.
        student: the module that trains.
        momentum: 1 leaves the teacher as it is, 0 makes it the student's equal.
    """
    moved = [
        *zip(teacher.parameters(), student.parameters(), strict=True),
        *zip(teacher.buffers(), student.buffers(), strict=True),
    ]
    for old, new in moved:
        if old.is_floating_point():
            old.lerp_(new.to(old.dtype), 1 - momentum)
        else:
            old.copy_(new)
