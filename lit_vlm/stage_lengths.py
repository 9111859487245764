"""How long the stages of a run are: from steps, passes over data and shares to optimizer steps."""

import math
from collections.abc import Callable, Mapping

from lightning import Trainer

from lit_vlm.run_length import steps_of_run, steps_per_epoch
from lit_vlm.stages import Stage, StageBatches, StagePlan


def check_lengths(stages: Mapping[str, Stage]) -> None:
    """Raise ``ValueError`` if a stage that others follow does not say how long it lasts."""
    for name in list(stages)[:-1]:
        if not stages[name].has_length:
            raise ValueError(
                f"StagedFreezing: a stage that another follows must have a length, got none for "
                f"{name!r}. Give its steps, epochs or share."
            )
    shares = sum(stage.share or 0 for stage in stages.values())
    if shares > 1 + 1e-9:
        raise ValueError(
            f"StagedFreezing: the shares of all stages must add up to at most 1, got {shares:g}."
        )


def plan_of_run(stages: Mapping[str, Stage], trainer: Trainer) -> StagePlan:
    """Return the plan of a run whose stages read the same batches.

    Raises:
        ValueError: if a length cannot be known.
    """
    per_epoch = steps_per_epoch(trainer)
    return _plan(stages, steps_of_run(trainer), lambda name: per_epoch)


def plan_of_data(
    stages: Mapping[str, Stage], trainer: Trainer, batches: Mapping[str, int], accumulate: int
) -> StagePlan:
    """Return the plan of a run whose stages read batches of their own.

    Args:
        stages: the stages.
        trainer: its ``max_steps`` ends the run; its ``max_epochs`` is no length here.
        batches: batches of a pass over each stage's data.
        accumulate: batches of an optimizer step, where a stage does not say.

    Raises:
        ValueError: if a length cannot be known.
    """
    run = trainer.max_steps if trainer.max_steps >= 0 else math.inf
    return _plan(stages, run, lambda name: _steps(stages[name], batches[name], accumulate))


def next_batches(
    stages: Mapping[str, Stage],
    plan: StagePlan,
    step: int,
    batches: Mapping[str, int],
    accumulate: int,
) -> StageBatches:
    """Return which batches follow ``step`` optimizer steps; see ``plan_of_data``."""
    now = plan.at(step)
    stage, in_pass = stages[now.name], batches[now.name]
    per_pass = _steps(stage, in_pass, accumulate)
    window = stage.accumulate_grad_batches or accumulate
    passes, done = divmod(step - now.begin, per_pass)
    end = in_pass
    if now.length is not None:
        end = min(end, (now.length - passes * per_pass) * window)
    epoch = passes
    for earlier in plan.positions[: now.place]:
        assert earlier.length is not None
        before = stages[earlier.name]
        epoch += math.ceil(earlier.length / _steps(before, batches[earlier.name], accumulate))
    return StageBatches(stage, epoch, done * window, end)


def _steps(stage: Stage, batches: int, accumulate: int) -> int:
    return math.ceil(batches / (stage.accumulate_grad_batches or accumulate))


def _plan(
    stages: Mapping[str, Stage], run: int | float, per_epoch: Callable[[str], int | float]
) -> StagePlan:
    lengths: dict[str, int | None] = {}
    begin, shared = 0, 0.0
    for name, stage in stages.items():
        length = _length(name, stage, run, per_epoch)
        if stage.share is not None:
            # Rounded together, so that shares of all the run end with it.
            length = max(1, round((shared + stage.share) * run) - round(shared * run))
            shared += stage.share
        if length is None and not math.isinf(run):
            length = max(1, round(run) - begin)
        lengths[name] = length
        begin += length or 0
    return StagePlan(lengths)


def _length(
    name: str, stage: Stage, run: int | float, per_epoch: Callable[[str], int | float]
) -> int | None:
    if stage.steps is not None:
        return stage.steps
    known = run if stage.share is not None else per_epoch(name) if stage.epochs is not None else 0
    if math.isinf(known):
        raise ValueError(
            f"StagedFreezing: the length of stage {name!r} must be known, got a share of a run "
            f"without an end or epochs of data without a length. Give its steps, or the trainer's "
            f"max_steps or max_epochs."
        )
    return round(known) * stage.epochs if stage.epochs is not None else None
