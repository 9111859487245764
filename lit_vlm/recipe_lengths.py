"""How long the stages of a recipe are, as far as a config alone can tell."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from lit_vlm.stages import Stage


class Length(NamedTuple):
    """How long a stage is; ``amount`` is None if a config cannot tell."""

    amount: float | None
    unit: Literal["steps", "epochs", "share"]
    text: str


def stage_lengths(
    stages: Iterable[Stage], max_steps: int | None, max_epochs: int | None
) -> list[Length]:
    """Return how long each stage is, in the unit that the config gives.

    Args:
        stages: the stages, in order; the last may leave its length out.
        max_steps: where the run ends; None if it does not say.
        max_epochs: likewise.
    """
    lengths: list[Length] = []
    for stage in stages:
        lengths.append(_length(stage, max_steps) or _rest(lengths, max_steps, max_epochs))
    return lengths


def counted(number: int, kind: str, plural: str = "s") -> str:
    """Return a number with the word for what it counts: ``1 step``, ``2,000 steps``."""
    return f"{number:,} {kind}{'' if number == 1 else plural}"


def _length(stage: Stage, max_steps: int | None) -> Length | None:
    if stage.steps is not None:
        return Length(stage.steps, "steps", counted(stage.steps, "step"))
    if stage.epochs is not None:
        return Length(stage.epochs, "epochs", counted(stage.epochs, "epoch"))
    if stage.share is not None and max_steps is not None:
        steps = max(1, round(stage.share * max_steps))
        return Length(steps, "steps", counted(steps, "step"))
    if stage.share is not None:
        return Length(stage.share, "share", f"{stage.share:.0%} of the run")
    return None


def _rest(before: list[Length], max_steps: int | None, max_epochs: int | None) -> Length:
    units = {length.unit for length in before}
    done = sum(length.amount or 0 for length in before)
    if max_steps is not None and units <= {"steps"}:
        steps = max(1, max_steps - round(done))
        return Length(steps, "steps", counted(steps, "step"))
    if max_epochs is not None and units <= {"epochs"}:
        epochs = max(1, max_epochs - round(done))
        return Length(epochs, "epochs", counted(epochs, "epoch"))
    if units == {"share"}:
        return Length(1 - done, "share", f"{1 - done:.0%} of the run")
    return Length(None, "share", "the rest" if before else "no end")
