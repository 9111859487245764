"""A data module's splits by name, ours and other projects'."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning import LightningDataModule

_STAGES = {"test": "test", "predict": "predict"}  # the others are ready once a fit is


def has_split(datamodule: LightningDataModule | None, split: str) -> bool:
    """Whether a data module has data for a split.

    It may say so by a method ``has_split(split)``; else it is taken to have what it has a method
    ``SPLIT_dataloader`` for.
    """
    ask = getattr(datamodule, "has_split", None)
    if ask is not None:
        return bool(ask(split))
    own = getattr(type(datamodule), f"{split}_dataloader", None)
    return own is not None and own is not getattr(LightningDataModule, f"{split}_dataloader", None)


@contextmanager
def validating_on(datamodule: LightningDataModule, split: str) -> Iterator[None]:
    """Let a data module give another split where validation data is asked for.

    Its hooks for batches stay in force; its position in the training data is left alone, and it is
    torn down once, at the end. Of several loaders the first counts.
    """
    setup = datamodule.setup

    def set_up(stage: str) -> None:
        if split in _STAGES:
            setup(_STAGES[split])

    def loader() -> Any:
        # Another split's loaders may be those of validation.
        del vars(datamodule)["val_dataloader"]
        made = getattr(datamodule, f"{split}_dataloader")()
        vars(datamodule)["val_dataloader"] = loader
        return made[0] if isinstance(made, list | tuple) else made

    shown: dict[str, Any] = {
        "setup": set_up,
        "val_dataloader": loader,
        "load_state_dict": lambda state_dict: None,
        "teardown": lambda stage: None,
    }
    before = {name: vars(datamodule)[name] for name in shown if name in vars(datamodule)}
    vars(datamodule).update(shown)
    try:
        yield
    finally:
        for name in shown:
            vars(datamodule).pop(name, None)
        vars(datamodule).update(before)
    datamodule.teardown("validate")
