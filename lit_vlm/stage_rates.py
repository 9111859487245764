"""Learning rates of the stages of a run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_vlm.made_optimizers import optimizers_in, schedulers_in
from lit_vlm.optim import Schedule, schedule_factor
from lit_vlm.optimizer_groups import Refine, refine_made, refining_groups
from lit_vlm.part_names import find_parts, is_within
from lit_vlm.stages import Position, Stage, StagePlan
from lit_vlm.trainable import TrainableModule

_PATTERNS = "stage_patterns"  # of a group: which patterns of the stages' learning_rates mean it


class RateOptions(NamedTuple):
    """What holds where a stage says nothing.

    Attributes:
        warmup: steps, or share of the stage.
        schedule: shape after the warm-up.
        floor: share of the peak at the end.
    """

    warmup: int | float = 0
    schedule: Schedule = "constant"
    floor: float = 0.0


class StageRates:
    """Set the learning rates of an optimizer's parameter groups, stage by stage.

    A rate depends on the plan, the step and the module's own configuration alone.

    Args:
        stages: the stages by name.
    """

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        self.stages = stages
        self._options = RateOptions()
        self._active = False
        self._own: dict[Any, float] = {}
        self._patterns: dict[Any, Sequence[str]] = {}
        self._refine: Refine | None = None

    @property
    def active(self) -> bool:
        """Whether the stages set learning rates, and not the module alone."""
        return self._active

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Find out who sets the learning rates of this run.

        Raises:
            ValueError: if the stages and a scheduler of the module both would.
        """
        wanted = any(stage.says_rates for stage in self.stages.values())
        if wanted and trainer.lr_scheduler_configs:
            raise ValueError(
                f"StagedFreezing: learning rates must be set by the stages or by a scheduler of "
                f"{type(module).__name__}, got both. Leave one out."
            )
        self._active = wanted or isinstance(module, TrainableModule)
        if isinstance(module, TrainableModule):
            self._options = RateOptions(module.warmup, module.schedule, module.min_learning_rate)

    def check(self, plan: StagePlan) -> None:
        """Raise ``ValueError`` if a schedule must know an end that its stage does not have."""
        for position in plan.positions if self._active else []:
            self._factor(position, position.begin)

    @contextmanager
    def splitting(self, module: nn.Module) -> Iterator[None]:
        """Let optimizers that are made meanwhile have groups that the stages can tell apart.

        Raises:
            ValueError: if a pattern of ``learning_rates`` means nothing in the module.
        """
        by_parameter = self._patterns_by_parameter(module)
        names = {id(parameter): name for name, parameter in module.named_parameters()}

        def refine(
            parameter: Tensor, group: Mapping[str, Any], defaults: Mapping[str, Any]
        ) -> dict[str, Any]:
            if _PATTERNS in group:
                return {}  # an optimizer around another hands its own groups on
            patterns = by_parameter.get(id(parameter), [])
            part = names.get(id(parameter), "others").partition(".")[0]
            name = ".".join([group.get("name", part), *patterns])
            return {"part": group.get("part", part), "name": name, _PATTERNS: patterns}

        # Without such rates, the groups are the module's own.
        self._refine = refine if by_parameter else None
        with nullcontext() if self._refine is None else refining_groups(self._refine):
            yield

    def split_made(self, made: Any) -> None:
        """Split the groups of optimizers that ``configure_optimizers`` had made before, too."""
        if self._refine is None:
            return
        for optimizer in optimizers_in(made):
            if any(_PATTERNS not in group for group in optimizer.param_groups):
                own = [s for s in schedulers_in(made) if s.optimizer is optimizer]
                refine_made(optimizer, own, self._refine)

    def remember(self, optimizers: Iterable[Optimizer]) -> None:
        """Keep the learning rates that new optimizers were made with, before a schedule is set."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                # Not asked of the groups later: those of a checkpoint take their place on resume.
                # DeepSpeed puts parameters of its own into a group, or none, but keeps its name.
                for key in (group.get("name"), *map(id, group["params"])):
                    self._own[key] = float(group.get("unscaled_lr", group["lr"]))
                    self._patterns[key] = group.get(_PATTERNS, ())

    def set(self, trainer: Trainer, now: Position) -> None:
        """Set the learning rate of every group for the step to come."""
        if not self._active:
            return
        factor = self._factor(now, trainer.global_step)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.peak(group, now.name) * factor

    def peak(self, group: Mapping[str, Any], stage: str | None) -> float:
        """Return the highest learning rate of a group in a stage.

        The last of the stage's ``learning_rates`` that means the group counts, else the stage's
        ``learning_rate``, or the group's own, times the group's multiplier.
        """
        if not self._active or stage is None:
            return float(group["lr"])
        own = group["lr"]
        patterns: Sequence[str] = ()
        for key in (group.get("name"), *map(id, group["params"][:1])):
            own, patterns = self._own.get(key, own), self._patterns.get(key, patterns)
        for pattern, rate in reversed(self.stages[stage].learning_rates.items()):
            if pattern in patterns:
                return rate
        return (self.stages[stage].learning_rate or own) * float(group.get("lr_multiplier", 1.0))

    def _factor(self, now: Position, step: int) -> float:
        stage, own = self.stages[now.name], self._options
        warmup = own.warmup if stage.warmup is None else stage.warmup
        schedule = stage.schedule or own.schedule
        floor = own.floor if stage.min_learning_rate is None else stage.min_learning_rate
        if now.length is None and schedule != "constant":
            raise ValueError(
                f"StagedFreezing: schedule {schedule!r} must know where stage {now.name!r} ends, "
                f"got no end. Give its steps, or the trainer's max_steps or max_epochs, or "
                f"schedule: constant."
            )
        return schedule_factor(step - now.begin, now.length or 0, warmup, schedule, floor)

    def _patterns_by_parameter(self, module: nn.Module) -> dict[int, list[str]]:
        patterns = dict.fromkeys(p for s in self.stages.values() for p in s.learning_rates)
        found: dict[int, list[str]] = {}
        for pattern in patterns:
            parts = find_parts(module, [pattern], "StagedFreezing: learning_rates")
            for name, parameter in module.named_parameters():
                if is_within(name, parts):
                    found.setdefault(id(parameter), []).append(pattern)
        return found
