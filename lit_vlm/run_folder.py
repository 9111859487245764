"""The folder that a run leaves behind."""

import itertools
import os
import shutil
from pathlib import Path

from lit_vlm.checkpoints import is_deepspeed_checkpoint, is_sharded_checkpoint

CHECKPOINTS = "checkpoints"
SELECTED = "selected"
_ORDER = (SELECTED, "best", "last")
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


def keep_as(source: Path, target: Path) -> None:
    """Keep a checkpoint under another name too, which a later change of the first leaves alone.

    A file is linked, since checkpoints are replaced and never written into; it is copied where
    links are impossible.
    """
    part = target.with_name(f".{target.name}.part")
    remove(part)
    try:
        os.link(source, part)
    except OSError:
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, part)
    if target.is_dir():
        remove(target)
    os.replace(part, target)


def resolve_checkpoint(asked: str, folder: Path) -> str:
    """Turn a checkpoint's name in a run, or another run's folder, into its path.

    Args:
        asked: ``selected``, ``last``, ``best`` or another file of the run's ``checkpoints`` without
            ``.ckpt``; or the path of a checkpoint; or a run folder, for ``pick_checkpoint``.
        folder: the run's folder.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    if is_name(asked):
        path = folder / CHECKPOINTS / f"{asked}.ckpt"
        if _is_checkpoint(path):
            return str(path)
    elif _is_checkpoint(Path(asked)):
        return asked
    if (Path(asked) / CHECKPOINTS).is_dir():
        return str(pick_checkpoint(Path(asked)))
    raise FileNotFoundError(_missing(asked, folder))


def is_name(asked: str) -> bool:
    """Whether a checkpoint is asked for by a name such as ``last``, not by a path."""
    return asked in _ORDER or not (Path(asked).suffix or Path(asked).exists() or "/" in asked)


def pick_checkpoint(folder: Path, to_go_on: bool = False) -> Path:
    """Return a run's selected checkpoint, else its best, else its last.

    Args:
        folder: the run folder.
        to_go_on: return the last instead, where training goes on.

    Raises:
        FileNotFoundError: if it has none of them.
    """
    names = ("last",) if to_go_on else _ORDER
    files = [folder / CHECKPOINTS / f"{name}.ckpt" for name in names]
    found = next((file for file in files if _is_checkpoint(file)), None)
    if found is None:
        raise FileNotFoundError(
            f"--ckpt_path must be a run that has a checkpoint, got {folder}: there is no "
            f"{', '.join(file.name for file in files)} in {folder / CHECKPOINTS}."
        )
    return found


def _missing(asked: str, folder: Path) -> str:
    place = folder / CHECKPOINTS
    path = place / f"{asked}.ckpt" if is_name(asked) else Path(asked)
    stems = sorted(file.stem for file in place.glob("*.ckpt"))
    # Weights that were kept for an average alone are no checkpoints.
    there = ", ".join(name for name in stems if not name.startswith("recent-")) or "no checkpoints"
    message = (
        f"--ckpt_path must be a checkpoint, a run folder, or a name such as last of the run in "
        f"{folder}, got {asked!r}: there is no {path}. That run has: {there}."
    )
    if asked == SELECTED:
        message += (
            " A checkpoint is selected when fit ends, on data that chose neither last nor best: "
            "hold some out by --data.selection 0.05, or name a split by "
            "--checkpoint_selection.split."
        )
    return message


def _is_checkpoint(path: Path) -> bool:
    return path.is_file() or is_sharded_checkpoint(path) or is_deepspeed_checkpoint(path)


def remove(path: Path) -> None:
    """Remove a checkpoint, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
