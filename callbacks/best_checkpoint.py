"""Keeping the checkpoint that did best in validation."""

from pathlib import Path
from typing import Literal

from lit_vlm.callbacks.run_checkpoint import RunCheckpoint


class BestCheckpoint(RunCheckpoint):
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
        super().__init__("best", dirpath, monitor=monitor, mode=mode)
