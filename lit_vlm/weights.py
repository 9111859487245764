"""Reading weight files of the usual kinds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

_NAMES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a file, or from the usual file of a folder.

    Args:
        path: a ``.safetensors`` file, a torch file (``.pth``, ``.pt``, ``.bin``, ``.ckpt``), or a
            folder with one of them under its usual name.

    Raises:
        OSError: if there is no such file.
        ValueError: if the file holds no state dict.
    """
    file = Path(path)
    if file.is_dir():
        found = [file / name for name in _NAMES if (file / name).exists()]
        if not found:
            raise OSError(f"{file}: must hold weights ({', '.join(_NAMES)}), found none of these.")
        file = found[0]
    if file.suffix == ".safetensors":
        return load_file(file)
    content = torch.load(file, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{file}: must hold a state dict, a dictionary of tensors by name.")
    return content


def read_some_weights(name: str | Path, prefixes: Sequence[str]) -> dict[str, Tensor]:
    """Read only the tensors whose names begin with a prefix, which is cut off.

    Of weights in several files, only those with such a tensor are opened, or downloaded. Other
    tensors take no memory.

    Args:
        name: folder or hub name, of files as transformers writes them.
        prefixes: what the names begin with; the first that fits counts.

    Raises:
        OSError: if there are no weights and they cannot be downloaded.
    """
    found = {}
    for file in _files_with(name, prefixes):
        for key, tensor in _read_where(file, prefixes).items():
            prefix = next(prefix for prefix in prefixes if key.startswith(prefix))
            found[key.removeprefix(prefix)] = tensor
    return found


def _files_with(name: str | Path, prefixes: Sequence[str]) -> list[Path]:
    for usual in ("model.safetensors", "pytorch_model.bin"):
        index = _find(name, f"{usual}.index.json")
        if index is not None:
            places: dict[str, str] = json.loads(index.read_text())["weight_map"]
            names = sorted({f for key, f in places.items() if key.startswith(tuple(prefixes))})
            return [file for part in names if (file := _find(name, part, required=True))]
        if (file := _find(name, usual)) is not None:
            return [file]
    raise OSError(f"{name}: must hold weights as transformers writes them, found none.")


def _find(name: str | Path, file: str, required: bool = False) -> Path | None:
    from transformers.utils.hub import cached_file  # the library starts without it

    found = cached_file(str(name), file, _raise_exceptions_for_missing_entries=required)
    return None if found is None else Path(found)


def _read_where(file: Path, prefixes: Sequence[str]) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        handle: Any
        with safe_open(file, framework="pt") as handle:
            wanted = [key for key in handle.keys() if key.startswith(tuple(prefixes))]
            return {key: handle.get_tensor(key) for key in wanted}
    content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return {key: value for key, value in content.items() if key.startswith(tuple(prefixes))}
