"""Keeping the state that training stopped at."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer

from lit_vlm.callbacks.run_checkpoint import RunCheckpoint
from lit_vlm.stop_signal import StopSignal


class LastCheckpoint(RunCheckpoint):
    """Keep one file, ``last.ckpt``: the newest state.

    It is written every few steps, when an exception or SIGTERM ends the run, and at the end.
    (Lightning's ``save_last`` beside a ``monitor`` keeps a copy of the best state instead.)

    Args:
        every_n_train_steps: optimizer steps between two writes.
        dirpath: folder; None for ``checkpoints`` under the trainer's ``default_root_dir``.
    """

    def __init__(self, every_n_train_steps: int = 500, dirpath: str | Path | None = None) -> None:
        super().__init__(
            "last", dirpath, every_n_train_steps=every_n_train_steps, save_on_exception=True
        )
        self._began = False
        self._signal = StopSignal()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for SIGTERM."""
        self._signal.listen(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that there is a state to keep."""
        super().on_train_start(trainer, pl_module)
        self._began = True

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the state, unless the run failed before it began: a good file may be there."""
        if self._began:
            super().on_exception(trainer, pl_module, exception)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let this batch be the last, if a process was told to stop."""
        self._signal.agree(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the state every few steps, and at the step that ``max_steps`` stops at.

        After that step Lightning takes the epoch for finished, and a run that goes on from there
        with more steps would count one epoch too many.
        """
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step == trainer.max_steps:
            self._save_unless_saved(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last state, unless it was just written."""
        self._save_unless_saved(trainer)

    def _save_unless_saved(self, trainer: Trainer) -> None:
        trying_out = getattr(trainer, "fast_dev_run", False)
        if self._last_global_step_saved != trainer.global_step and not trying_out:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
