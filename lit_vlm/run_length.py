"""How long a run is, in optimizer steps."""

import math

from lightning import Trainer


def steps_per_epoch(trainer: Trainer) -> int | float:
    """Return the optimizer steps of a pass over the training data; infinite if it has no length."""
    batches = trainer.num_training_batches
    if math.isinf(batches):
        return math.inf
    return float(math.ceil(batches / trainer.accumulate_grad_batches))


def steps_of_run(trainer: Trainer) -> int | float:
    """Return the optimizer steps until ``max_epochs`` or ``max_steps``; infinite without them."""
    limits: list[int | float] = [math.inf]
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(steps_per_epoch(trainer) * trainer.max_epochs)
    if trainer.max_steps >= 0:
        limits.append(trainer.max_steps)
    return float(min(limits))
