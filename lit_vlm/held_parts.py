"""The parts inside a checkpoint of any model of this library."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_vlm.checkpoints import read_any_checkpoint
from lit_vlm.run_folder import CHECKPOINTS


def read_held(path: str | Path | None) -> dict[str, Any] | None:
    """Read a part's ``pretrained`` if it is a checkpoint of this library, else return None.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if it is a run's folder, or in shards.
    """
    if path is not None and Path(path, CHECKPOINTS).is_dir():
        raise ValueError(
            f"pretrained: {path} must be a checkpoint, got the folder of a run. Give one of its "
            f"checkpoints: {Path(path, CHECKPOINTS, 'last.ckpt')}."
        )
    if path is None or Path(path).suffix != ".ckpt":
        return None
    if not Path(path).exists():
        raise FileNotFoundError(f"pretrained: there is no checkpoint {path}.")
    if Path(path).is_dir():
        raise ValueError(
            f"pretrained: {path} must be a file, got a checkpoint in shards. Make a file of it: "
            f"python -m lightning.fabric.utilities.consolidate_checkpoint {path} --output_file "
            f"FILE.ckpt"
        )
    content = read_any_checkpoint(path)
    # Other projects' .ckpt files are weights like any: they do not say what they hold.
    return content if "_class_path" in content.get("hyper_parameters", {}) else None


def held_parts(record: Any, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the records of all objects in a record, each with where in the weights it is.

    Args:
        record: ``class_path`` and ``init_args`` of a model, see ``model_config``.
        prefix: where in the weights it is itself.
    """
    if not isinstance(record, dict):
        return
    inner = record.get("init_args", {}) if "class_path" in record else record
    if "class_path" in record:
        yield prefix, {"init_args": {}, **record}
    for name, value in inner.items():
        yield from held_parts(value, f"{prefix}{name}.")
