"""Reading checkpoints: what is in one, and the model that it rebuilds."""

import importlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule

from lit_vlm.errors import root_cause

_BESIDE_SHARDS = "meta.pt"  # Lightning's name for what is neither weights nor optimizer state

IN_SHARDS = (
    "{}: must be a checkpoint file, got a folder of shards, which only --trainer.strategy fsdp2 "
    "can load. To evaluate or ask it otherwise, make a file of it: python -m "
    "lightning.fabric.utilities.consolidate_checkpoint {} --output_file FILE.ckpt"
)
"""Message for a folder in the place of a file, which is named twice."""

FOR_ENGINE = (
    "{}: must be a checkpoint file, got a folder of DeepSpeed's, which its strategies alone can "
    "load, and those of ZeRO 3 to train on alone. Make a file of it: python -c "
    "'from lightning.pytorch.utilities import deepspeed; "
    'deepspeed.convert_zero_checkpoint_to_fp32_state_dict("{}", "FILE.ckpt")\''
)
"""The same for a folder that a DeepSpeed engine has written."""

NOT_TESTED = (
    "ZeRO 3 cannot load its checkpoints to test them. Make a file of one, see lit-vlm test "
    "--ckpt_path CHECKPOINT, and test that."
)
"""Message for a run that ends without a test."""


def is_sharded_checkpoint(path: str | Path) -> bool:
    """Whether a path is a folder to which each process has added its shards (FSDP2)."""
    return Path(path, _BESIDE_SHARDS).is_file()


def is_deepspeed_checkpoint(path: str | Path) -> bool:
    """Whether a path is a folder that a DeepSpeed engine has written."""
    return bool(_engine_states(path))


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that this library wrote; tensors stay on disk until they are used.

    Of a sharded one there is all but weights and optimizer states.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a whole checkpoint, or one of another kind.
    """
    content = read_any_checkpoint(path)
    if "_class_path" not in content.get("hyper_parameters", {}):
        raise ValueError(
            f"{path}: must be a checkpoint of lit-vlm, got one that does not say what model it "
            f"holds. Weights of other projects are read by the parts' pretrained argument."
        )
    return content


def read_any_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of any LightningModule; see ``read_checkpoint``."""
    file = Path(path, _BESIDE_SHARDS) if is_sharded_checkpoint(path) else Path(path)
    file = next(iter(_engine_states(path)), file)
    if not file.is_file():
        problem = "which is a folder" if file.is_dir() else "which does not exist"
        raise FileNotFoundError(f"--ckpt_path must be a checkpoint file, got {file}, {problem}.")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ValueError(
            f"{file}: must be a whole checkpoint of lit-vlm, got {_what_it_is(file)}."
        ) from error
    return content if isinstance(content, dict) else {}


def model_config(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return ``class_path`` and ``init_args`` of the model in a checkpoint."""
    return _config(checkpoint[LightningModule.CHECKPOINT_HYPER_PARAMS_KEY])


def data_config(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """Return ``class_path`` and ``init_args`` of the data it was trained on, if known."""
    record = checkpoint.get(LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY)
    return _config(record) if record else None


def load_model(path: str | Path) -> LightningModule:
    """Rebuild the model of a checkpoint, with no other argument and no network.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a checkpoint of this library, or one in shards.
        ImportError: if it holds a user's class that cannot be imported here.
    """
    class_path = model_config(read_checkpoint(path))["class_path"]
    if is_sharded_checkpoint(path):
        raise ValueError(IN_SHARDS.format(path, path))
    if is_deepspeed_checkpoint(path):
        raise ValueError(FOR_ENGINE.format(path, path))
    module, _, name = class_path.rpartition(".")
    try:
        model_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"{path}: the checkpoint's class {class_path} must be importable, got: {error}. Run "
            f"the command where your project can be imported."
        ) from error
    try:
        model = model_class.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except (TypeError, ValueError) as error:
        if not isinstance(cause := root_cause(error), TypeError):
            raise
        raise ValueError(
            f"{path}: {class_path} must accept the arguments in the checkpoint, but it does not: "
            f"{cause}. Use the version of the class that wrote it."
        ) from error
    assert isinstance(model, LightningModule)
    return model


def _engine_states(path: str | Path) -> list[Path]:
    # In ZeRO 3, each process has written one, beside its shard of the optimizer.
    return sorted(Path(path, "checkpoint").glob("*model_states.pt"))


def _what_it_is(file: Path) -> str:
    if not file.stat().st_size:
        return "an empty file"
    if not zipfile.is_zipfile(file):
        return "one that was cut off, or another kind of file"
    return "one that is damaged, or holds other objects than tensors and numbers"


def _config(record: dict[str, Any]) -> dict[str, Any]:
    arguments = {k: v for k, v in record.items() if k not in ("_class_path", "_instantiator")}
    return {"class_path": record["_class_path"], "init_args": arguments}
