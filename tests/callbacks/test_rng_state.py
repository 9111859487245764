import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lit_vlm.callbacks import RNGState


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=str(tmp_path),
    )
    trainer.state.fn = TrainerFn.FITTING
    return trainer


def draw() -> tuple[float, float, float]:
    return float(torch.rand(())), random.random(), float(np.random.rand())


def saved(trainer: Trainer) -> dict[str, Any]:
    checkpoint: dict[str, Any] = {}
    RNGState().on_save_checkpoint(trainer, LightningModule(), checkpoint)
    return checkpoint


def test_all_three_generators_go_on_where_they_were(trainer: Trainer, tmp_path: Path) -> None:
    draw()
    torch.save(saved(trainer), tmp_path / "state.ckpt")
    expected = draw()
    callback, model = RNGState(), LightningModule()
    loaded = torch.load(tmp_path / "state.ckpt", weights_only=True)
    callback.on_load_checkpoint(trainer, model, loaded)
    draw()  # start-up draws too
    callback.on_train_batch_start(trainer, model, None, 0)
    assert draw() == expected
    callback.on_train_batch_start(trainer, model, None, 1)
    assert draw() != expected, "the state must be restored once only"


def test_says_so_when_the_number_of_processes_has_changed(trainer: Trainer) -> None:
    checkpoint = saved(trainer)
    checkpoint["rng_states"] *= 2
    with pytest.warns(UserWarning, match="random states of 2 processes, this run has 1"):
        RNGState().on_load_checkpoint(trainer, LightningModule(), checkpoint)
