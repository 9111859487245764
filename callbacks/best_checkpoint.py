"""Keeping the checkpoint that did best in validation."""

from pathlib import Path
from typing import Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Keep one file, ``best.ckpt``: the state with the best validation figure so far.

    Args:
        monitor: the logged figure.
        mode: whether more (``max``) or less (``min``) of it is better.
        dirpath: folder; None for ``checkpoints`` under the trainer's ``default_root_dir``.
    """

    def __init__(
        self,
        monitor: str = "val/accuracy",
        mode: Literal["max", "min"] = "max",
        dirpath: str | Path | None = None,
    ) -> None:
        super().__init__(
            dirpath,
            filename="best",
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    @property
    def state_key(self) -> str:
        """What its state is kept under; a file's state must outlive a change of options."""
        return f"BestCheckpoint[{self.monitor}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the folder."""
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir, "checkpoints").absolute())
        super().setup(trainer, pl_module, stage)
