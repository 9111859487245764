"""Reading weight files of the usual kinds."""

from pathlib import Path

import torch
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
