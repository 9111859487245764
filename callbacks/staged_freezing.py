"""What trains when: a run in stages."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.nn.parallel import DistributedDataParallel

from lit_vlm.callbacks.freeze import Freeze
from lit_vlm.deepspeed_engine import leave_out_frozen, uses_deepspeed
from lit_vlm.freezing import train_only
from lit_vlm.made_optimizers import optimizers_in, schedulers_in
from lit_vlm.module_hooks import unwrap_hook, wrap_hook
from lit_vlm.run_length import steps_of_run
from lit_vlm.stage_checks import (
    check_data,
    check_groups,
    check_optimizers,
    check_schedulers,
    check_trainer,
    group_sizes,
)
from lit_vlm.stage_lengths import check_lengths, next_batches, plan_of_data, plan_of_run
from lit_vlm.stage_parts import StageParts
from lit_vlm.stage_rates import StageRates
from lit_vlm.stages import Position, Stage, StageBatches, StagePlan


class StagedFreezing(Callback):
    """Train other parts of a model in each stage of one run, of any LightningModule.

    The stage is a function of the plan and the optimizer step alone, so a run that was killed goes
    on in its stage, and a run that is resumed obeys a changed plan. What a stage does not train is
    frozen: no gradient, no optimizer state, evaluation mode. Each stage begins with a clean
    optimizer state, and with a warm-up and a schedule of its own where the module or the stage has
    one. Distributed data parallel (DDP) is wrapped anew at each change, since its reducer knows
    only what trained when it was made. At each stage's end a checkpoint ``stage-NAME.ckpt`` is
    kept. If every stage has a length, the run ends with the last.

    If stages change the batches, each begins a pass over its data; the data module must know how
    (``ConversationDataModule`` does). Otherwise stages may change anywhere in a pass.

    Args:
        stages: the stages by name, in order; none for a run without them.
        dirpath: folder of the stages' checkpoints; None for ``checkpoints`` under the trainer's
            ``default_root_dir``.
        save_stages: whether each stage's end is kept as a checkpoint.

    Raises:
        ValueError: if a stage but the last has no length; at the start of ``fit`` if a name means
            nothing in the model, a length cannot be known, the optimizer lacks a parameter, or
            the strategy cannot change what trains (DeepSpeed, FSDP 1).
    """

    def __init__(
        self,
        stages: dict[str, Stage] = {},  # noqa: B006  # an option of None would not take values
        dirpath: str | Path | None = None,
        save_stages: bool = True,
    ) -> None:
        self.stages = dict(stages)
        check_lengths(self.stages)
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.save_stages = save_stages
        self.only: str | None = None  # the one stage that a fit trains; see fit_stages
        self.plan: StagePlan | None = None
        self.stage_name: str | None = None
        self._module: LightningModule | None = None
        self.rates = StageRates(self.stages)
        self._parts = StageParts(self.stages)
        self._wrapped_for: str | None = None
        self._wanted: set[str] = set()
        self._saved_groups: list[list[int]] = []
        self._folder = Path()
        self._accumulate = 1
        self._outside: tuple[int, int] = (-1, 0)  # max_steps and reloading of loaders

    @property
    def ends_run(self) -> bool:
        """Whether the stages say how long the run is."""
        return bool(self.stages) and all(stage.has_length for stage in self.stages.values())

    @property
    def sets_learning_rates(self) -> bool:
        """Whether modules of this library leave their learning rates to the stages."""
        return bool(self.stages)

    @property
    def state_key(self) -> str:
        """What its state is kept under; one without stages stands beside one with them."""
        return type(self).__name__ if self.stages else f"{type(self).__name__}[]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Freeze for the first stage before the strategy wraps the model."""
        if stage != "fit" or not self.stages:
            return
        _check_nothing_else_freezes(trainer)
        check_trainer(self.stages, trainer, self.only)
        self._module, self.plan = pl_module, None
        self.stage_name = self._wrapped_for = None
        self._saved_groups = []
        self._accumulate = trainer.accumulate_grad_batches
        self._outside = (trainer.max_steps, _reloading(trainer))
        self._parts.begin(pl_module)
        unwrap_hook(pl_module, "configure_optimizers", self._configure_optimizers)
        wrap_hook(pl_module, "configure_optimizers", self._configure_optimizers)
        if self._changes_data:
            check_data(self.stages, trainer, pl_module)
            trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]
        self._folder = self.dirpath or Path(trainer.default_root_dir, "checkpoints").absolute()
        try:
            self._parts.apply(pl_module, self.only or next(iter(self.stages)))
            self._wrapped_for = self._parts.applied
        except ValueError:
            # Layers that configure_model makes are not there yet, they are looked for later.
            if type(pl_module).configure_model is LightningModule.configure_model:
                raise

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module's hooks and the trainer's settings as they were."""
        self._release(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave them as they were, after an error too."""
        self._release(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the stage's name."""
        return {"stage": self.stage_name} if self.stage_name else {}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Freeze for the stage that the checkpoint was written in, before DDP wraps the model."""
        if not self.stages or trainer.state.fn != "fit":
            return
        self._saved_groups = group_sizes(checkpoint.get("optimizer_states", []))
        self.stage_name = checkpoint.get("callbacks", {}).get(self.state_key, {}).get("stage")
        if self.stage_name in self.stages:
            self._parts.apply(pl_module, self.stage_name)
            self._wrapped_for = self.stage_name

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lay the plan out, and take up the stage that the run is in."""
        if not self.stages:
            return
        if not uses_deepspeed(trainer):  # whose optimizer holds parameters of its own
            check_optimizers(pl_module, trainer, self._wanted)
        self.rates.begin(trainer, pl_module)
        if not self._changes_data:
            self.plan = plan_of_run(self.stages, trainer)
        assert self.plan is not None
        self.rates.check(self.plan)
        self._end_with_plan(trainer)
        self._parts.warn(pl_module)
        self._follow(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Change the stage if its time has come, and set the learning rates of this step."""
        if not self.stages:
            return
        now = self._follow(trainer, pl_module)
        self.rates.set(trainer, now)
        pl_module.log("stage", float(now.place + 1), prog_bar=True, batch_size=1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the state at the end of a stage."""
        if self.plan is None or not self.save_stages or getattr(trainer, "fast_dev_run", False):
            return
        assert self.stage_name is not None
        now = self.plan.named(self.stage_name)
        # Several optimizers count a step each, and may step over the end.
        if now.length is None or trainer.global_step < now.begin + now.length:
            return
        if trainer.fit_loop._should_accumulate():
            return
        path = self._folder / f"stage-{now.name}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)

    def peak_learning_rate(self, group: Mapping[str, Any]) -> float:
        """Return the highest learning rate that a parameter group has in this stage."""
        return self.rates.peak(group, self.stage_name)

    def next_batches(
        self, trainer: Trainer, batches_per_pass: Callable[[Stage], int]
    ) -> StageBatches | None:
        """Return which training batches come next; None if the stages leave the data alone.

        Args:
            trainer: the trainer, which then accumulates as the stage wants, and whose model works
                at the stage's image size.
            batches_per_pass: returns the batches of a pass over a stage's data, on one rank.
        """
        if not self._changes_data or trainer.state.fn != "fit":
            return None
        limit = trainer.limit_train_batches
        most = limit if isinstance(limit, int) else math.inf
        per_pass = {n: int(min(batches_per_pass(s), most)) for n, s in self.stages.items()}
        if self.plan is None:
            self.plan = plan_of_data(self.stages, trainer, per_pass, self._accumulate)
        step = trainer.global_step
        name = self.plan.at(step).name
        stage = self.stages[name]
        self._parts.resize(trainer.lightning_module, name)
        trainer.accumulate_grad_batches = stage.accumulate_grad_batches or self._accumulate
        return next_batches(self.stages, self.plan, step, per_pass, self._accumulate)

    @property
    def _changes_data(self) -> bool:
        return any(stage.changes_data for stage in self.stages.values())

    def _configure_optimizers(self, original: Callable[[], Any]) -> Any:
        # Some projects give only what trains now to the optimizer; what trains later belongs too.
        module = self._module
        assert module is not None
        now = self._parts.applied or self.only or next(iter(self.stages))
        self._wanted = self._parts.trained_by_any(module)
        if uses_deepspeed(module.trainer):
            self._parts.apply(module, now)  # its engine can train nothing else
        else:
            train_only(module, sorted(self._wanted))
        with self.rates.splitting(module):
            made = original()
        self.rates.split_made(made)
        check_groups(optimizers_in(made), self._saved_groups)
        if uses_deepspeed(module.trainer):
            check_schedulers(module, schedulers_in(made))
            leave_out_frozen(optimizers_in(made))
        self.rates.remember(optimizers_in(made))
        self._parts.apply(module, now)
        return made

    def _follow(self, trainer: Trainer, module: LightningModule) -> Position:
        assert self.plan is not None
        now = self.plan.named(self.only) if self.only else self.plan.at(trainer.global_step)
        if now.name != self.stage_name or now.name != self._wrapped_for:
            self._enter(trainer, module, now)
        return now

    def _enter(self, trainer: Trainer, module: LightningModule, now: Position) -> None:
        stage = self.stages[now.name]
        module.zero_grad(set_to_none=True)
        if self._wrapped_for != now.name:
            self._parts.apply(module, now.name)
            _wrap_anew(trainer)
            self._wrapped_for = now.name
        if self.stage_name in self.stages and self.stage_name != now.name:
            if not stage.keep_optimizer:
                for optimizer in trainer.optimizers:
                    optimizer.state.clear()
        self.stage_name = now.name
        count, until = len(self.stages), "the end of the run"
        if now.length is not None:
            until = f"step {now.begin + now.length:,}"
        rank_zero_info(
            f"Stage {now.name} ({now.place + 1} of {count}): from step {trainer.global_step:,} to "
            f"{until}, {', '.join(stage.trains)} train."
        )

    def _release(self, trainer: Trainer) -> None:
        if self._module is None:
            return
        unwrap_hook(self._module, "configure_optimizers", self._configure_optimizers)
        self._module = None
        trainer.accumulate_grad_batches = self._accumulate
        trainer.fit_loop.epoch_loop.max_steps, reloading = self._outside
        trainer.reload_dataloaders_every_n_epochs = reloading  # type: ignore[attr-defined]

    def _end_with_plan(self, trainer: Trainer) -> None:
        assert self.plan is not None
        limit, total = trainer.max_steps, self.plan.total
        if total is not None and (limit < 0 or limit > total):
            trainer.fit_loop.epoch_loop.max_steps = total
        end = limit if self._changes_data and limit >= 0 else steps_of_run(trainer)
        if total is not None and end < total:
            cut = self.plan.at(round(end) - 1).name
            rank_zero_warn(
                f"StagedFreezing: the run ends after {end:,.0f} steps, in stage {cut}, and the "
                f"stages after {total:,}. Raise the trainer's max_steps or max_epochs."
            )
        if self.only and (length := self.plan.named(self.only).length) is not None:
            end = min(end, self.plan.named(self.only).begin + length)
            trainer.fit_loop.epoch_loop.max_steps = int(end)


def _reloading(trainer: Any) -> int:
    return int(trainer.reload_dataloaders_every_n_epochs)


def _check_nothing_else_freezes(trainer: Trainer) -> None:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    if any(isinstance(callback, Freeze) and callback.parts for callback in callbacks):
        raise ValueError(
            "StagedFreezing: the stages must say what is frozen alone, got a Freeze callback too. "
            "Leave it out, and name what stays frozen inside of what trains in keeps_frozen."
        )


def _wrap_anew(trainer: Trainer) -> None:
    # DDP's reducer knows only what trained when it was made: what thaws later would differ
    # between ranks, in silence, and what freezes later would stop it.
    strategy: Any = trainer.strategy
    if isinstance(strategy.model, DistributedDataParallel):
        strategy.model = strategy.lightning_module  # frees the old reducer and its hooks
        strategy.configure_ddp()
