"""Stages under DeepSpeed: a fit, and with it an engine, for each."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden

from lit_vlm.callbacks.rng_state import RNGState
from lit_vlm.callbacks.staged_freezing import StagedFreezing
from lit_vlm.checkpoints import read_any_checkpoint
from lit_vlm.deepspeed_engine import uses_deepspeed


def fit_stages(
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule | None = None,
    ckpt_path: str | Path | None = None,
    **options: Any,
) -> None:
    """Train like ``trainer.fit``; under DeepSpeed, with an engine for each stage of a plan.

    A DeepSpeed engine knows what trained when it was made, and never trains what thaws later. So
    each stage of ``StagedFreezing`` is a fit of its own, of one trainer, which goes on counting
    steps and epochs. A data module that keeps its place (``load_state_dict``) goes on within its
    pass over the data, with others each stage begins a pass. With another strategy, or without
    stages, it is one fit.

    Args:
        trainer: the trainer.
        model: the model.
        datamodule: the data; None if the model or ``options`` have it.
        ckpt_path: checkpoint to go on from; DeepSpeed's are folders.
        options: further arguments of ``trainer.fit``.
    """
    options = {**options, "datamodule": datamodule}
    staged = _stages(trainer)
    if isinstance(trainer.strategy, DeepSpeedStrategy):
        # For its own log of the pace; Lightning would look for it in the data loader, in vain.
        trainer.strategy.config.setdefault("train_micro_batch_size_per_gpu", 1)
    if staged is None or not uses_deepspeed(trainer):
        trainer.fit(model, ckpt_path=ckpt_path, **options)
        return
    end = trainer.max_steps
    place = _Place(datamodule)
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(place)
    names = list(staged.stages)
    try:
        for name in names[_begin(staged, names, ckpt_path) :]:
            staged.only = name
            trainer.fit_loop.epoch_loop.max_steps = end  # the stage before has set its own
            trainer.fit(model, ckpt_path=ckpt_path, **options)
            if place.step != trainer.global_step or trainer.interrupted:
                return  # the run has ended before the stage's end, or with it
            ckpt_path = None
            place.take_up(trainer, model)
    finally:
        staged.only = None
        trainer.callbacks = [c for c in trainer.callbacks if c is not place]  # type: ignore[attr-defined]


class _Place(Callback):
    """Remember where the run is, in data and random numbers, at the end of a stage."""

    def __init__(self, datamodule: LightningDataModule | None) -> None:
        self.datamodule = datamodule
        self.step = -1
        self._loops: dict[str, Any] | None = None
        self._data: dict[str, Any] = {}
        self._random: dict[str, Any] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the place, if a stage ends here."""
        staged = _stages(trainer)
        if staged is None or staged.plan is None or trainer.fit_loop._should_accumulate():
            return
        if staged.plan.ends_at(trainer.global_step) is None:
            return
        self.step = trainer.global_step
        self._random = {}
        for callback in _random_states(trainer):
            callback.on_save_checkpoint(trainer, pl_module, self._random)
        self._loops = None
        if self.datamodule is not None and _keeps_its_place(self.datamodule):
            self._data = self.datamodule.state_dict()
            if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
                self._loops = trainer.fit_loop.state_dict()

    def take_up(self, trainer: Trainer, model: LightningModule) -> None:
        """Let the next fit begin where the last one ended."""
        if self.datamodule is not None and _keeps_its_place(self.datamodule):
            self.datamodule.load_state_dict(self._data)
        if self._loops is not None:  # within a pass over the data
            trainer.fit_loop.load_state_dict(self._loops)
        for callback in _random_states(trainer):
            callback.on_load_checkpoint(trainer, model, self._random)


def _stages(trainer: Trainer) -> StagedFreezing | None:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return next((c for c in callbacks if isinstance(c, StagedFreezing) and len(c.stages) > 1), None)


def _random_states(trainer: Trainer) -> list[RNGState]:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, RNGState)]


def _keeps_its_place(datamodule: LightningDataModule) -> bool:
    return is_overridden("load_state_dict", datamodule, LightningDataModule)


def _begin(staged: StagedFreezing, names: list[str], ckpt_path: str | Path | None) -> int:
    """Return the place of the stage that a checkpoint was written in."""
    if ckpt_path is None:
        return 0
    saved = read_any_checkpoint(ckpt_path).get("callbacks", {}).get(staged.state_key, {})
    if saved.get("stage") not in names:
        raise ValueError(
            f"StagedFreezing: under DeepSpeed a run must be resumed from a stage of its plan "
            f"({', '.join(names)}), got {saved.get('stage')!r} in {ckpt_path}. Give the plan that "
            f"the checkpoint was written with."
        )
    return names.index(saved["stage"])
