"""Keeping the checkpoint that did best in validation."""

from pathlib import Path
from typing import Any, Literal

from lightning import LightningModule, Trainer

from lit_vlm.callbacks.run_checkpoint import RunCheckpoint
from lit_vlm.checkpoints import read_any_checkpoint
from lit_vlm.run_folder import remove


class BestCheckpoint(RunCheckpoint):
    """Keep one file, ``best.ckpt``: the state with the best validation figure so far.

    A run that is resumed asks the file itself for its score, since a checkpoint of the same step
    may have been written before the validation; and forgets a file from beyond the step that it
    resumes at, which the run it continues no longer leads to.

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
        super().__init__("best", dirpath, monitor=monitor, mode=mode)
        self._resumed_at: int | None = None
        self._forgotten = False

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note the step that training goes on from."""
        self._resumed_at = checkpoint["global_step"] if trainer.state.fn == "fit" else None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back the score to beat, from the best file if the run has come past it."""
        super().load_state_dict(state_dict)
        if self._resumed_at is None or not self._file.exists():
            return
        held = self._read()
        if held.get("global_step", self._resumed_at + 1) > self._resumed_at:
            self.best_k_models, self.best_model_path, self.kth_best_model_path = {}, "", ""
            nothing: Any = None
            self.best_model_score = self.current_score = self.kth_value = nothing
            self._forgotten = True
        else:
            super().load_state_dict(held["callbacks"].get(self.state_key, state_dict))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove a forgotten file that no validation of this run has replaced."""
        super().on_train_end(trainer, pl_module)
        if self._forgotten and not self.best_model_path and trainer.is_global_zero:
            remove(self._file)

    @property
    def _file(self) -> Path:
        return Path(str(self.dirpath)) / f"{self.filename}.ckpt"

    def _read(self) -> dict[str, Any]:
        try:
            return read_any_checkpoint(self._file)
        except (ValueError, OSError):  # damaged: no score to beat
            return {}
