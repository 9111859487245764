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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back the scores and paths; the run's folder may have moved since.

        If the file is not in this run's folder, it is a new run, and there is no score to beat.
        """
        folder = Path(str(self.dirpath))
        if not (folder / f"{self.filename}.ckpt").exists():
            return

        def here(path: str) -> str:
            return str(folder / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {key: here(state_dict[key]) for key in paths if key in state_dict}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(
            {**state_dict, **moved, "best_k_models": scores, "dirpath": self.dirpath}
        )
