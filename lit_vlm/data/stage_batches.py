"""Which training batches the stages of a run ask a data module for."""

from collections.abc import Callable, Sequence
from typing import Any

from lit_vlm.stages import Stage, StageBatches


def staged_batches(trainer: Any, batches_per_pass: Callable[[Stage], int]) -> StageBatches | None:
    """Return which batches come next in the trainer's stages; None if they change none.

    Args:
        trainer: the data module's, or None; its callback ``StagedFreezing`` knows.
        batches_per_pass: returns the batches of a pass over a stage's data, on one rank.
    """
    callbacks: list[Any] = getattr(trainer, "callbacks", [])
    staged = [callback for callback in callbacks if hasattr(callback, "next_batches")]
    asked = (callback.next_batches(trainer, batches_per_pass) for callback in staged)
    batches = next((found for found in asked if found is not None), None)
    if batches is None:
        return None
    loop = trainer.fit_loop
    if not loop.restarting:
        return batches
    if loop._combined_loader is not None:
        _close_pass(loop.epoch_loop, batches)
        return batches
    # The first loader of a run that is resumed: Lightning counts the batches of its pass.
    done = loop.epoch_loop.batch_progress.current.processed
    if not done:
        return batches
    # Where a pass had just ended, Lightning first closes it, with a loader that is used up.
    return batches._replace(begin=done, end=batches.end if batches.begin else done)


def _close_pass(loop: Any, batches: StageBatches) -> None:
    # A checkpoint of a pass's last batch: Lightning would compare its count with the next pass,
    # which may be longer, and take the finished pass for one that is to go on.
    if loop.restarting and loop.restarted_on_train_batch_end and batches.begin == 0:
        loop._batches_that_stepped += 1
        loop.batch_progress.increment_completed()
        loop.reset_restart_stage()
        loop.restarting = False


def places_of(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Return the places of named training sources.

    Raises:
        ValueError: if there is none of that name.
    """
    for name in names:
        if name not in known:
            raise ValueError(
                f"the data of a stage must be names of the data module's train "
                f"({', '.join(known) or 'none'}), got {name!r}. Give the training sources names: "
                f"train: {{NAME: SOURCE}}."
            )
    return [known.index(name) for name in names]
