import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from lit_vlm.callbacks import BestCheckpoint, LastCheckpoint
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.model import VisionLanguageModel


class Stumble(Callback):
    """Raise at one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("stumbled")


def fit(
    model: VisionLanguageModel, path: Path, folder: Path, *callbacks: Callback, **options: Any
) -> Trainer:
    # Without pictures, the validation data have none in common with the training data.
    val = path.with_name("val.jsonl")
    turns = [{"from": "human", "value": "color?"}, {"from": "gpt", "value": "red"}]
    val.write_text(json.dumps({"id": "val", "conversations": turns}))
    data = ConversationDataModule(
        train=JSONConversations(path), val=JSONConversations(val), batch_size=2
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=str(folder),
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(model, data)
    return trainer


def step_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


@pytest.mark.parametrize("limit", [{"max_steps": 5}, {"max_epochs": 2}])
def test_last_is_the_last_step_also_beside_a_best_one(
    tiny_model: Callable[..., VisionLanguageModel],
    color_questions: Callable[[list[bool]], Path],
    tmp_path: Path,
    limit: dict[str, int],
) -> None:
    path = color_questions([True] * 6)
    best = BestCheckpoint(monitor="val/loss", mode="max")
    trainer = fit(tiny_model(learning_rate=0.01), path, tmp_path, best, LastCheckpoint(4), **limit)
    assert step_of(tmp_path / "checkpoints" / "last.ckpt") == trainer.global_step
    # The loss falls, so the highest one was the first.
    assert step_of(tmp_path / "checkpoints" / "best.ckpt") == 3


def test_an_exception_leaves_the_state_it_met(
    tiny_model: Callable[..., VisionLanguageModel],
    color_questions: Callable[[list[bool]], Path],
    tmp_path: Path,
) -> None:
    path = color_questions([True] * 6)
    with pytest.raises(RuntimeError, match="stumbled"):
        fit(tiny_model(), path, tmp_path, LastCheckpoint(100), Stumble(4), max_epochs=3)
    assert step_of(tmp_path / "checkpoints" / "last.ckpt") == 4
