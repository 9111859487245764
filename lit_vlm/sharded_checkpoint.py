"""Checkpoints in shards: folders to which every process adds its part."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load


def read_optimizers(folder: Path, parameters: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Read this process's shards of the optimizers' states in a folder; all processes must.

    Args:
        folder: the checkpoint.
        parameters: the model's parameters by name, which say what this process holds of each. A
            state is read for those that have one in the folder, whether they train or not.

    Returns:
        What the optimizers' ``state_dict`` would return, with names in the place of numbers.
    """
    metadata = FileSystemReader(folder).read_metadata()
    paths: dict[str, Any] = {
        key: path
        for key, path in metadata.planner_data.items()
        if str(path[0]).startswith("optimizer_")
    }
    values = {
        key: _room_for(metadata.state_dict_metadata[key], parameters.get(str(path[2])))
        for key, path in paths.items()
    }
    load(values, checkpoint_id=folder)
    read: dict[Any, Any] = {}
    for key, (*outer, last) in paths.items():
        inner = read
        for step in outer:
            inner = inner.setdefault(step, {})
        inner[last] = values[key]
    return [
        {"state": optimizer.get("state", {}), "param_groups": _in_order(optimizer["param_groups"])}
        for optimizer in _in_order(read)
    ]


def put_in_place(beside: Path, target: Path) -> None:
    """Let a folder take the place of a file or another folder, which is removed.

    A folder cannot replace another in one step: if the process is killed between two of them, the
    former content is in ``NAME.previous``, whole.
    """
    previous = target.with_name(f"{target.name}.previous")
    if target.exists():
        _remove(previous)
        os.rename(target, previous)
    os.rename(beside, target)
    _remove(previous)


def _room_for(stored: Any, parameter: Tensor | None) -> Any:
    if not hasattr(stored, "size"):  # not a tensor
        return None
    dtype = stored.properties.dtype
    if parameter is not None and stored.size == parameter.shape:
        return torch.empty_like(parameter, dtype=dtype)
    return torch.empty(stored.size, dtype=dtype)


def _in_order(numbered: dict[Any, Any]) -> list[Any]:
    # By number: "optimizer_10" comes behind "optimizer_2".
    return [numbered[key] for key in sorted(numbered, key=lambda key: int(str(key).split("_")[-1]))]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
