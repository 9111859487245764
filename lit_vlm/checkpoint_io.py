"""Checkpoint files that are either whole or not there."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

_SUFFIX = ".part"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place and rename it once it is on disk.

    Lightning's own write goes through the system's temporary folder; when that lies on another
    filesystem, a run killed while it saves loses the previous checkpoint too.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint; the file at ``path`` is the old or the new one at any time."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f".{target.name}.*{_SUFFIX}"):
            leftover.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(_SUFFIX, f".{target.name}.", target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    # The rename itself must reach the disk too; some systems cannot open folders.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
