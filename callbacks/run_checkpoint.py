"""What checkpoints of a run have in common: one fixed file each, in the run's folder."""

import warnings
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class RunCheckpoint(ModelCheckpoint):
    """Keep one file of a fixed name.

    Args:
        name: the file's name, without ``.ckpt``.
        dirpath: folder; None for ``checkpoints`` under the trainer's ``default_root_dir``.
        options: further arguments of ``ModelCheckpoint``.
    """

    def __init__(self, name: str, dirpath: str | Path | None, **options: Any) -> None:
        super().__init__(
            dirpath,
            filename=name,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
            **options,
        )

    @property
    def state_key(self) -> str:
        """What its state is kept under; it must outlive a change of options."""
        return f"{type(self).__name__}[{self.monitor}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the folder."""
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir, "checkpoints").absolute())
        with warnings.catch_warnings():
            # A run that is resumed writes where it wrote before.
            warnings.filterwarnings("ignore", message="Checkpoint directory .* is not empty")
            super().setup(trainer, pl_module, stage)
