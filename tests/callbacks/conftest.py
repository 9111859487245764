"""What tests of callbacks share: another project's module, and a trainer that keeps quiet."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lightning import Callback, Trainer


@pytest.fixture
def plain_project(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Another project, ``plain_project.py``, which can be imported and named in a config."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("plain_project")


@pytest.fixture
def quiet_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Make a trainer for one CPU that writes nothing unless it is told to."""

    def make(*callbacks: Callback, **options: Any) -> Trainer:
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "limit_val_batches": 0,
            "max_epochs": -1,
            "default_root_dir": str(tmp_path),
        }
        return Trainer(callbacks=list(callbacks), **{**defaults, **options})

    return make
