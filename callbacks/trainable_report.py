"""What trains: said before it does, and checked when it has begun."""

from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from rich.console import Console
from torch import Tensor
from torch.optim import Optimizer

from lit_vlm.callbacks.staged_freezing import StagedFreezing
from lit_vlm.gradient_norms import gradient_norms, norms_by_part
from lit_vlm.movement import MovementCheck
from lit_vlm.movement_text import failure_text, warning_text
from lit_vlm.part_tensors import parameters_by_part
from lit_vlm.trainable import TrainableModule
from lit_vlm.trainable_table import trainable_rows, trainable_table


class TrainableReport(Callback):
    """Print a table of what trains, check soon that it is so, and log gradient norms per part.

    The table stands before the first step, and again where a stage of ``StagedFreezing`` begins.
    A few steps later, or where the stage ends before that, what is frozen must be bit for bit what
    it was, BatchNorm's statistics too, and each part that trains must have moved, by a gradient.
    What is frozen is compared by digests of 64 bits, not by copies. DeepSpeed and FSDP1 keep
    weights and gradients elsewhere; under them there is the table only.

    Args:
        check_after: optimizer steps from a stage's first to the check; 0 for no check. Steps that
            a gradient scaler leaves out do not count.
        on_failure: whether a part that trains and should not, or should and does not, is an
            ``error`` or a warning (``warn``).
        log_gradient_norms: whether to log ``grad_norm/PART``: the Euclidean norm of a part's
            gradient in one step, over all ranks, before it is clipped.

    Raises:
        ValueError: if ``check_after`` is negative; in training, if the check fails.
    """

    def __init__(
        self,
        check_after: int = 5,
        on_failure: Literal["error", "warn"] = "error",
        log_gradient_norms: bool = True,
    ) -> None:
        if check_after < 0:
            raise ValueError(
                f"TrainableReport: check_after must be a number of steps, or 0 for no check, got "
                f"{check_after}."
            )
        self.check_after = check_after
        self.on_failure = on_failure
        self.log_gradient_norms = log_gradient_norms
        self._stage: str | None = None
        self._begins = False
        self._check: MovementCheck | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take a place behind the callback that switches stages, to see what it has done.

        Of several reports the first stays: the command line's gives way to one in a config.
        """
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        before = callbacks[: callbacks.index(self)]
        others = [callback for callback in callbacks if callback is not self]
        stages = _stages(trainer)
        if any(isinstance(callback, TrainableReport) for callback in before):
            trainer.callbacks = others  # type: ignore[attr-defined]
        elif stages is not None and stages not in before:
            others.insert(others.index(stages) + 1, self)
            # A new list: Lightning is going through the old one at this moment.
            trainer.callbacks = others  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        self._stage = _stage_name(trainer)
        self._begins = True
        self._check = None
        self._print(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Where a stage begins, print its table and note what the model is."""
        name = _stage_name(trainer)
        if name != self._stage:
            self._stage = name
            self._begins = True
            self._print(trainer, pl_module)
        if self._begins and self.check_after and _keeps_weights_in_place(trainer):
            self._check = MovementCheck(pl_module, trainer.optimizers)
        self._begins = False

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        """Measure the gradients, which are whole and not clipped yet."""
        logs = self.log_gradient_norms and trainer._logger_connector.should_update_logs
        if not (logs or self._check) or not _keeps_weights_in_place(trainer):
            return
        parts = parameters_by_part(pl_module)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        norms = gradient_norms({n: p for own in parts.values() for n, p in own.items()})
        total = torch.tensor(list(norms.values())).sum()
        if self._check and norms and (scaler is None or bool(total.isfinite())):
            self._check.see_step(optimizer, norms)
        if logs:
            by_part = norms_by_part(parts, norms, optimizer)
            scale = _scale(optimizer, scaler)
            pl_module.log_dict(
                {f"grad_norm/{part}": norm / scale for part, norm in by_part.items()}, batch_size=1
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check, if it is time."""
        if self._check is None or not self._check.steps:
            return
        stages = _stages(trainer)
        plan = None if stages is None else stages.plan
        ends = plan is not None and plan.ends_at(trainer.global_step) is not None
        if ends or self._check.steps >= self.check_after:
            self._judge(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check a run that was too short for it before."""
        if self._check is not None and self._check.steps:
            self._judge(trainer)

    def _judge(self, trainer: Trainer) -> None:
        assert self._check is not None
        check, self._check = self._check, None

        def largest(flags: Tensor) -> Tensor:
            reduced = trainer.strategy.reduce(flags, reduce_op="max")
            assert isinstance(reduced, Tensor)
            return reduced

        found = check.findings(largest)
        when = f"{check.steps} optimizer step{'s' if check.steps > 1 else ''}"
        when += f" of stage {self._stage}" if self._stage else ""
        failure, warning = failure_text(found, when), warning_text(found, when)
        if warning:
            rank_zero_warn(warning)
        if failure and self.on_failure == "error":
            raise ValueError(failure)
        if failure:
            rank_zero_warn(failure)

    @rank_zero_only
    def _print(self, trainer: Trainer, pl_module: LightningModule) -> None:
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        stages = _stages(trainer)

        def peak(group: dict[str, Any]) -> float:
            if stages is None or not stages.rates.active:
                return _peak(group, pl_module)
            return stages.peak_learning_rate(group)

        rows = trainable_rows(pl_module, groups, peak)
        Console().print(trainable_table(f"what trains{_place(trainer)}", rows))


def _stages(trainer: Trainer) -> StagedFreezing | None:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return next((c for c in callbacks if isinstance(c, StagedFreezing) and c.stages), None)


def _stage_name(trainer: Trainer) -> str | None:
    stages = _stages(trainer)
    return None if stages is None else stages.stage_name


def _place(trainer: Trainer) -> str:
    stages = _stages(trainer)
    if stages is None or stages.plan is None:
        return ""
    here = stages.plan.at(trainer.global_step)
    when = f"from step {here.begin} on"
    if here.length is not None:
        when = f"steps {here.begin}-{here.begin + here.length - 1}"
    return f": stage {here.name} ({here.place + 1} of {len(stages.stages)}, {when})"


def _peak(group: dict[str, Any], pl_module: LightningModule) -> float:
    if isinstance(pl_module, TrainableModule):  # it sets the rates at each step
        return pl_module.learning_rate * float(group.get("lr_multiplier", 1.0))
    # In a warm-up, or a resumed run, the group holds the rate of the moment; where it keeps its
    # rate apart from a multiplier (PretrainedLR), schedulers keep theirs without one, too.
    rate = group.get("max_lr", group.get("initial_lr", group.get("unscaled_lr", group["lr"])))
    return float(rate) * (group["lr_multiplier"] if "unscaled_lr" in group else 1.0)


def _keeps_weights_in_place(trainer: Trainer) -> bool:
    return not isinstance(trainer.strategy, DeepSpeedStrategy | FSDPStrategy)


def _scale(optimizer: Optimizer, scaler: Any) -> float:
    # Fused steps undo the scaling of their gradients themselves, later.
    scaled = scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False)
    return float(scaler.get_scale()) if scaled else 1.0
