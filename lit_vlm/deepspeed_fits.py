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
    if isinstance(trainer.strategy, DeepSpeedStrategy) and trainer.strategy.config is not None:
        # For its own log of the pace; Lightning would look for it in the data loader, in vain.
        trainer.strategy.config.setdefault("train_micro_batch_size_per_gpu", 1)
    if staged is None or not uses_deepspeed(trainer):
        trainer.fit(model, ckpt_path=ckpt_path, **options)
        return
    end = trainer.max_steps
    place = _Place(datamodule)
    names = list(staged.stages)
    trainer.callbacks = [*_callbacks(trainer), place]  # type: ignore[attr-defined]
    try:
        for name in names[_begin(staged, names, ckpt_path) :]:
            staged.only = name
            trainer.fit_loop.epoch_loop.max_steps = end  # the stage before has set its own
            trainer.fit(model, ckpt_path=ckpt_path, **options)
            ended = staged.plan and staged.plan.ends_at(trainer.global_step)
            if not ended or ended.name != name or trainer.interrupted:
                return
            place.take_up(trainer, model)
            ckpt_path = None
    finally:
        staged.only = None
        others = [callback for callback in _callbacks(trainer) if callback is not place]
        trainer.callbacks = others  # type: ignore[attr-defined]


class _Place(Callback):
    """Remember where the run is, in data and random numbers, at the end of a stage."""

    def __init__(self, datamodule: LightningDataModule | None) -> None:
        keeps = datamodule and is_overridden("load_state_dict", datamodule, LightningDataModule)
        self.datamodule = datamodule if keeps else None
        self._loops: dict[str, Any] = {}
        self._data: dict[str, Any] = {}
        self._random: dict[str, Any] = {}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note the place: the checkpoint may be that of a stage's end."""
        self._loops = checkpoint["loops"]["fit_loop"]
        self._data = checkpoint.get(type(self.datamodule).__qualname__, {})
        self._random = checkpoint

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the place, if a stage ends here."""
        staged = _stages(trainer)
        if not staged or not staged.plan or not staged.plan.ends_at(trainer.global_step):
            return
        # After this batch Lightning takes the pass for finished.
        self._loops = trainer.fit_loop.state_dict()
        self._data = self.datamodule.state_dict() if self.datamodule else {}
        self._random = {}
        for callback in _random_states(trainer):
            callback.on_save_checkpoint(trainer, pl_module, self._random)

    def take_up(self, trainer: Trainer, model: LightningModule) -> None:
        """Let the next fit begin where the last one ended."""
        if self.datamodule:
            self.datamodule.load_state_dict(self._data)
            if not self._loops["epoch_loop.batch_progress"]["is_last_batch"]:
                trainer.fit_loop.load_state_dict(self._loops)
        for callback in _random_states(trainer):
            callback.on_load_checkpoint(trainer, model, self._random)


def _callbacks(trainer: Any) -> list[Any]:
    return list(trainer.callbacks)


def _stages(trainer: Trainer) -> StagedFreezing | None:
    staged = (c for c in _callbacks(trainer) if isinstance(c, StagedFreezing))
    return next((callback for callback in staged if len(callback.stages) > 1), None)


def _random_states(trainer: Trainer) -> list[RNGState]:
    return [callback for callback in _callbacks(trainer) if isinstance(callback, RNGState)]


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
