"""Keeping the state that training stopped at."""

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Keep one file, ``last.ckpt``: the newest state.

    It is written every few steps, when an exception or SIGTERM ends the run, and at the end.
    (Lightning's ``save_last`` beside a ``monitor`` keeps a copy of the best state instead.)

    Args:
        every_n_train_steps: optimizer steps between two writes.
        dirpath: folder; None for ``checkpoints`` under the trainer's ``default_root_dir``.
    """

    def __init__(self, every_n_train_steps: int = 500, dirpath: str | Path | None = None) -> None:
        super().__init__(
            dirpath,
            filename="last",
            every_n_train_steps=every_n_train_steps,
            save_on_train_epoch_end=False,
            save_on_exception=True,
            enable_version_counter=False,
        )

    @property
    def state_key(self) -> str:
        """What its state is kept under; it must outlive a change of options."""
        return "LastCheckpoint"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the folder."""
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir, "checkpoints").absolute())
        super().setup(trainer, pl_module, stage)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last state, unless it was just written."""
        trying_out = getattr(trainer, "fast_dev_run", False)
        if self._last_global_step_saved != trainer.global_step and not trying_out:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
