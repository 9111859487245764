"""The folder that a run leaves behind."""

import itertools
import os
import shutil
from pathlib import Path

CHECKPOINTS = "checkpoints"
_TRACES = ("metrics.csv", CHECKPOINTS)  # a run that left neither may be overwritten


def make_room(folder: Path) -> Path | None:
    """Make a folder ready for a new run; an earlier run in it moves to ``folder.N``.

    Returns:
        Where the earlier run is now, or None.

    Raises:
        OSError: if the folder cannot be written to.
    """
    moved = None
    if any((folder / trace).exists() for trace in _TRACES):
        numbered = (folder.with_name(f"{folder.name}.{n}") for n in itertools.count(1))
        moved = next(path for path in numbered if not path.exists())
        os.rename(folder, moved)
    check_writable(folder)
    return moved


def put_back(folder: Path, moved: Path) -> bool:
    """Give an earlier run its folder again, if the run that took it left nothing."""
    if any((folder / trace).exists() for trace in _TRACES):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(moved, folder)
    return True


def check_output(file: Path) -> None:
    """Raise ``OSError``, before anything is computed, if a file cannot be written."""
    if file.is_dir():
        raise IsADirectoryError(f"--output must be a file, got the folder {file}.")
    check_writable(file.parent, "--output FILE")


def check_writable(folder: Path, option: str = "--trainer.default_root_dir FOLDER") -> None:
    """Raise ``OSError`` with a clear message if a folder cannot be written to.

    Args:
        folder: the folder; it is made if it is missing.
        option: what chooses another, for the message.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"the folder for the results must be writable, got {folder} ({error.strerror}). Choose "
            f"another by {option}."
        ) from error


def resolve_checkpoint(asked: str, folder: Path) -> str:
    """Turn ``last`` and ``best`` into the files of a run; other paths stay as they are.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    path = folder / CHECKPOINTS / f"{asked}.ckpt" if asked in ("last", "best") else Path(asked)
    if not path.is_file():
        raise FileNotFoundError(
            f"--ckpt_path must be a checkpoint, or last or best of the run in {folder}, got "
            f"{asked!r}: there is no {path}."
        )
    return str(path)
