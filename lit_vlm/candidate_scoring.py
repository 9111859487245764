"""Scoring checkpoints of a run that has ended, without a trace in its logs and callbacks."""

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.seed import isolate_rng

from lit_vlm.item_scores import ScoreKeeper
from lit_vlm.module_hooks import unwrap_hook, wrap_hook
from lit_vlm.selection import Candidate
from lit_vlm.splits import validating_on

_NO_NEWS = (
    "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    "Using `DistributedSampler` with the dataloaders",  # what it repeats counts once
)


def score_candidates(
    candidates: dict[str, Candidate],
    trainer: Any,
    model: LightningModule,
    datamodule: LightningDataModule,
    split: str,
    monitor: str | None,
    seed: int,
) -> dict[str, Candidate]:
    """Return the candidates with their items' scores, and with the monitored figure.

    Args:
        candidates: by name; they are scored in this order, and the model keeps the last weights.
        trainer: which has fitted.
        model: the model it fitted.
        datamodule: which has the split.
        split: the data to score on, whole.
        monitor: the logged figure to keep beside the scores.
        seed: of the random numbers of each scoring, so that all draw the same.
    """
    folder = Path(trainer.default_root_dir)
    scored: dict[str, Candidate] = {}
    scoring: Any = getattr(model, "scoring", nullcontext)
    with _alone(trainer, model), validating_on(datamodule, split), scoring():
        if split == "test":
            trainer.limit_val_batches = trainer.limit_test_batches
        for name, candidate in candidates.items():
            keeper = ScoreKeeper()
            trainer.callbacks = [keeper]
            _seed(seed)
            path = str(folder / candidate.path)
            trainer.validate(model, datamodule=datamodule, ckpt_path=path, verbose=False)
            figure = trainer.callback_metrics.get(monitor or "")
            scored[name] = replace(
                candidate, items=keeper.items, figure=None if figure is None else float(figure)
            )
    return scored


@contextmanager
def _alone(trainer: Any, model: LightningModule) -> Iterator[None]:
    """Let a trainer evaluate with no callbacks, loggers and limits, for a while."""
    kept = (trainer.callbacks, trainer.loggers, trainer.limit_val_batches)
    # Modules may call their logger; the stand-ins take everything and write nothing.
    trainer.loggers = [DummyLogger() for _ in trainer.loggers]
    trainer.limit_val_batches = 1.0
    wrap_hook(model, "configure_callbacks", _none)
    try:
        with warnings.catch_warnings(), isolate_rng():
            for message in _NO_NEWS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        unwrap_hook(model, "configure_callbacks", _none)
        trainer.callbacks, trainer.loggers, trainer.limit_val_batches = kept


def _seed(seed: int) -> None:
    # Lightning's own seeding would also leave the seed in the environment.
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _none(original: Any) -> list[Any]:
    return []
