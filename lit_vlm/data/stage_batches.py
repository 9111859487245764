"""Which training batches the stages of a run ask a data module for."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lit_vlm.errors import nearest
from lit_vlm.stage_lengths import next_batches
from lit_vlm.stages import Stage, StageBatches


class StagedPass(NamedTuple):
    """A pass over a stage's data, or what is left of it.

    Attributes:
        name: the stage's.
        stage: the stage.
        epoch: number of passes over training data that the run has begun before this one.
        begin: batches of this pass that are done.
        end: batches of this pass after which it ends: all of them, or fewer if the stage ends.
        first: number of passes that the run has begun before the stage.
    """

    name: str
    stage: Stage
    epoch: int
    begin: int
    end: int
    first: int

    def sampling(self, batches: int) -> dict[str, int]:
        """Return where a ``BatchSampler`` begins and ends, for the batches of a whole pass."""
        begin = self.epoch * batches + self.begin
        return {"position": begin, "epoch_length": batches, "end": self.end}


def staged_batches(trainer: Any, batches_per_pass: Callable[[Stage], int]) -> StagedPass | None:
    """Return which batches come next in the trainer's stages; None if they change none.

    Args:
        trainer: the data module's, or None; its callback ``StagedFreezing`` knows.
        batches_per_pass: returns the batches of a pass over a stage's data, on one rank.
    """
    callbacks: list[Any] = getattr(trainer, "callbacks", [])
    staged = [callback for callback in callbacks if hasattr(callback, "next_batches")]
    asked = ((each, each.next_batches(trainer, batches_per_pass)) for each in staged)
    callback, batches = next((found for found in asked if found[1] is not None), (None, None))
    if callback is None or batches is None:
        return None
    now = callback.plan.at(trainer.global_step)
    limit = trainer.limit_train_batches
    most = limit if isinstance(limit, int) else math.inf
    per_pass = {n: int(min(batches_per_pass(s), most)) for n, s in callback.stages.items()}
    lengths = (callback.stages, callback.plan, now.begin, per_pass, callback._accumulate)
    return StagedPass(now.name, *_resumed(trainer, batches), first=next_batches(*lengths).epoch)


def _resumed(trainer: Any, batches: StageBatches) -> StageBatches:
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
            hint = " Give the training sources names: train: {NAME: SOURCE}."
            raise ValueError(
                f"the data of a stage must be names of the data module's train "
                f"({', '.join(known) or 'none'}), got {name!r}."
                f"{nearest(name, known, list_all=False) or hint}"
            )
    return [known.index(name) for name in names]
