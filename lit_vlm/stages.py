"""What a training stage is, and which one an optimizer step is in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lit_vlm.images import Resize
from lit_vlm.optim import Schedule, steps_or_share
from lit_vlm.prompts.base import PromptFormat


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What trains for a while, and how.

    How long it lasts is said by one of ``steps``, ``epochs`` and ``share``; the last stage may
    leave it out and lasts to the end of the run. What else is not said is as outside the stages:
    the module's learning rate and schedule, the trainer's accumulation, the data's batches.

    Attributes:
        trains: modules or parameters that train, by dotted names or patterns: ``connector``,
            ``encoder.blocks.20-``, ``language_model.embed_tokens``. All else is frozen.
        keeps_frozen: exceptions inside of ``trains``.
        steps: how long, in optimizer steps.
        epochs: how long, in passes over the stage's data.
        share: how long, as a share of the run's optimizer steps (above 0, at most 1).
        learning_rate: peak learning rate of the stage; the multipliers of ``PretrainedLR`` count.
        learning_rates: peak learning rates of some of its parts, by names or patterns like those
            of ``trains``; these are final, no multiplier counts.
        warmup: steps (an integer), or share of the stage (a float below 1), of linear warm-up.
        schedule: ``cosine``, ``linear`` or ``constant`` after the warm-up, over this stage.
        min_learning_rate: share of the peak that the schedule ends at.
        keep_optimizer: go on with the optimizer's averages of the stage before; the default starts
            with none.
        batch_size: samples of a training batch on one rank.
        accumulate_grad_batches: batches of an optimizer step.
        data: names of the training sources that the stage reads, or their weights in the mixture
            by name; none for all of them.
        temperature: mixes the sources by the sizes that they have, to the power of 1 over this.
        image_size: side of the images that the encoder works at, in pixels.
        prompt: how the stage's training dialogues are written. Validation, test and the trained
            model use the model's own, as for the two that follow.
        resize: how the stage's training pictures are brought to the encoder's size.
        max_length: most tokens of the stage's training sequences.

    Raises:
        ValueError: if a value is out of range.
    """

    trains: list[str]
    keeps_frozen: list[str] = field(default_factory=list)
    steps: int | None = None
    epochs: int | None = None
    share: float | None = None
    learning_rate: float | None = None
    learning_rates: dict[str, float] = field(default_factory=dict)
    warmup: int | float | None = None
    schedule: Schedule | None = None
    min_learning_rate: float | None = None
    keep_optimizer: bool = False
    batch_size: int | None = None
    accumulate_grad_batches: int | None = None
    data: list[str] | dict[str, int | float] = field(default_factory=list)
    temperature: int | float | None = None
    image_size: int | None = None
    prompt: PromptFormat | None = None
    resize: Resize | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        for key in ("trains", "keeps_frozen", "data"):
            if isinstance(getattr(self, key), str):
                raise ValueError(
                    f"Stage: {key} must be a list of names, got {getattr(self, key)!r} alone."
                )
        if not self.trains:
            raise ValueError("Stage: trains must name what trains in the stage, got nothing.")
        lengths = [key for key in _LENGTHS if getattr(self, key) is not None]
        if len(lengths) > 1:
            raise ValueError(
                f"Stage: its length must be given once, got {' and '.join(lengths)}. Keep one."
            )
        for key in _COUNTS:
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"Stage: {key} must be at least 1, got {value}.")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"Stage: share must be above 0 and at most 1, got {self.share}.")
        for rate in (self.learning_rate, *self.learning_rates.values()):
            if rate is not None and rate <= 0:
                raise ValueError(f"Stage: learning rates must be positive, got {rate}.")
        if self.warmup is not None:
            object.__setattr__(self, "warmup", steps_or_share(self.warmup, "Stage"))
        if self.min_learning_rate is not None and not 0 <= self.min_learning_rate <= 1:
            raise ValueError(
                f"Stage: min_learning_rate must be a share of the peak between 0 and 1, got "
                f"{self.min_learning_rate}."
            )

    @property
    def has_length(self) -> bool:
        """Whether the stage says how long it lasts."""
        return any(getattr(self, key) is not None for key in _LENGTHS)

    @property
    def says_rates(self) -> bool:
        """Whether the stage says anything of learning rates."""
        said = (self.learning_rate, self.warmup, self.schedule, self.min_learning_rate)
        return bool(self.learning_rates) or any(value is not None for value in said)

    @property
    def changes_data(self) -> bool:
        """Whether the stage reads other batches than the run outside of it would."""
        return any(getattr(self, key) for key in _OF_BATCHES)

    @property
    def reading(self) -> dict[str, Any]:
        """What the stage says of how its training dialogues are read."""
        said = {key: getattr(self, key) for key in ("prompt", "resize", "max_length")}
        return {key: value for key, value in said.items() if value is not None}


_LENGTHS = ("steps", "epochs", "share")
_COUNTS = ("steps", "epochs", "batch_size", "accumulate_grad_batches", "image_size", "max_length")
_OF_BATCHES = (
    "batch_size",
    "accumulate_grad_batches",
    "data",
    "temperature",
    "image_size",
    "prompt",
    "resize",
    "max_length",
)


class Position(NamedTuple):
    """Where in a plan an optimizer step is.

    Attributes:
        place: place of the stage in the plan, from 0.
        name: the stage's name.
        begin: optimizer steps before the stage.
        length: optimizer steps of the stage; None if it has no end.
    """

    place: int
    name: str
    begin: int
    length: int | None


class StageBatches(NamedTuple):
    """Which training batches come next, for data modules whose batches a stage changes.

    Attributes:
        stage: the stage.
        epoch: number of passes over training data that the run has begun before this one.
        begin: batches of this pass that are done.
        end: batches of this pass after which it ends: all of them, or fewer if the stage ends.
    """

    stage: Stage
    epoch: int
    begin: int
    end: int


class StagePlan:
    """When each stage begins and ends, in optimizer steps of the run.

    A position is a function of the plan and the step alone: a resumed run needs no other state,
    and obeys a plan that was changed.

    Args:
        lengths: optimizer steps of each stage, by name, in order; the last may be None.

    Example:
        >>> plan = StagePlan({"align": 10, "tune": None})
        >>> plan.at(9).name, plan.at(10).name, plan.at(10).begin
        ('align', 'tune', 10)
    """

    def __init__(self, lengths: Mapping[str, int | None]) -> None:
        self.positions: list[Position] = []
        begin = 0
        for place, (name, length) in enumerate(lengths.items()):
            self.positions.append(Position(place, name, begin, length))
            begin += length or 0
        self.total = None if None in lengths.values() else begin

    def at(self, step: int) -> Position:
        """Return where the run is when ``step`` steps are done; past the end, the last stage."""
        for position in self.positions:
            if position.length is None or step < position.begin + position.length:
                return position
        return self.positions[-1]

    def named(self, name: str) -> Position:
        """Return the position of a stage."""
        return next(position for position in self.positions if position.name == name)

    def ends_at(self, step: int) -> Position | None:
        """Return the stage whose last step has just been done, if one has."""
        for position in self.positions:
            if position.length is not None and position.begin + position.length == step:
                return position
        return None
