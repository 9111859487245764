"""Keeping the checkpoint that did best in validation."""

from pathlib import Path
from typing import Any, Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lit_vlm.callbacks.run_checkpoint import RunCheckpoint
from lit_vlm.checkpoints import read_any_checkpoint
from lit_vlm.run_folder import remove

_USUAL = "val/accuracy"


class BestCheckpoint(RunCheckpoint):
    """Keep one file, ``best.ckpt``: the state with the best validation figure so far.

    A run that is resumed asks the file itself for its score, since a checkpoint of the same step
    may have been written before the validation; and forgets a file from beyond the step that it
    resumes at, which the run it continues no longer leads to.

    Args:
        monitor: the logged figure; None for the one that the module names as ``best_by``, or
            ``val/accuracy`` if it has no such attribute. If that is None, there is no best file.
        mode: whether more (``max``) or less (``min``) of it is better.
        dirpath: folder; None for ``checkpoints`` under the trainer's ``default_root_dir``.

    Raises:
        ValueError: at the end of a validation of ``fit``, if the figure was not logged.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["max", "min"] = "max",
        dirpath: str | Path | None = None,
    ) -> None:
        super().__init__("best", dirpath, monitor=monitor, mode=mode)
        self._asked = monitor
        self._resumed_at: int | None = None
        self._forgotten = False
        self._told = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose what to monitor, which the state is kept under, before one is restored."""
        self.monitor = self._asked or getattr(pl_module, "best_by", _USUAL)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so where no best state will be kept."""
        super().on_train_start(trainer, pl_module)
        if self.monitor is None and trainer.enable_validation and not self._told:
            self._told = True
            rank_zero_info(
                f"No best.ckpt is kept: {type(pl_module).__name__} logs no figure that says which "
                f"state is best. Give one: --best_checkpoint.monitor val/..."
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the state if it is the best so far."""
        if self.monitor is None or self._waits(trainer):
            return
        super().on_validation_end(trainer, pl_module)

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

    def _waits(self, trainer: Any) -> bool:
        """Whether there is nothing to compare yet; an error if there never will be.

        Raises:
            ValueError: if nothing has logged the figure, or will in a later validation.
        """
        figures = self._monitor_candidates(trainer)
        if self._should_skip_saving_checkpoint(trainer) or self.monitor in figures:
            return False
        if any(getattr(callback, "evaluates_later", False) for callback in trainer.callbacks):
            return True
        names = ", ".join(sorted(name for name in figures if name.startswith("val"))) or "none"
        raise ValueError(
            f"BestCheckpoint: monitor must be a figure that validation logs, got {self.monitor!r}; "
            f"logged are: {names}. Give one of them: --best_checkpoint.monitor, and "
            f"--best_checkpoint.mode min if less of it is better."
        )

    @property
    def _file(self) -> Path:
        return Path(str(self.dirpath)) / f"{self.filename}.ckpt"

    def _read(self) -> dict[str, Any]:
        try:
            return read_any_checkpoint(self._file)
        except (ValueError, OSError):  # damaged: no score to beat
            return {}
