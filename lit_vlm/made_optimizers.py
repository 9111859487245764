"""What a module's ``configure_optimizers`` has returned."""

from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch.core.optimizer import LightningOptimizer
from torch.optim import Optimizer


def optimizers_in(made: Any) -> list[Optimizer]:
    """Return the optimizers in whatever ``configure_optimizers`` returned."""
    return [item for item in _leaves(made) if isinstance(item, Optimizer)]


def schedulers_in(made: Any) -> list[Any]:
    """Return the schedulers in it, and those that they are made of."""
    return [
        item
        for item in _leaves(made)
        if hasattr(item, "optimizer") and not isinstance(item, Optimizer)
    ]


def _leaves(made: Any) -> Iterator[Any]:
    if isinstance(made, Mapping):
        made = list(made.values())
    if isinstance(made, (list, tuple)):
        for item in made:
            yield from _leaves(item)
    elif isinstance(made, LightningOptimizer):
        yield made.optimizer
    else:
        yield made
        yield from _leaves(getattr(made, "_schedulers", ()))
