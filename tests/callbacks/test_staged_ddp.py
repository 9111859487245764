"""Stages under two gloo processes, against one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.testing import assert_close

from lit_vlm.callbacks import RNGState, Stage, StagedFreezing
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.data.sampling import TrainingOrder
from lit_vlm.model import VisionLanguageModel

MakeModel = Callable[..., VisionLanguageModel]
STAGES = {
    "align": Stage(trains=["connector"], steps=3),
    "tune": Stage(trains=["connector", "language_model.model.layers.1"], steps=2),
    "all": Stage(trains=["encoder", "connector", "language_model"], keep_optimizer=True, steps=2),
    "eyes": Stage(trains=["encoder"], steps=2),
}


class Weights(Callback):
    """Keep each step's loss, and the weights at the end of each stage."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.ends: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        if trainer.global_step in (3, 5, 7, 9):
            now = pl_module.state_dict()
            self.ends[trainer.global_step] = {n: value.clone() for n, value in now.items()}


def train(
    make: MakeModel, path: Path, folder: Path, batch_size: int, resume: Any = None, **options: Any
) -> Weights:
    watcher = Weights()
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[StagedFreezing(STAGES), RNGState(), watcher],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        max_epochs=-1,
        default_root_dir=str(folder),
        **options,
    )
    data = ConversationDataModule(train=JSONConversations(path), batch_size=batch_size)
    trainer.fit(make(learning_rate=0.01), data, ckpt_path=resume)
    return watcher


@pytest.fixture
def two_processes(two_ranks: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Train in two processes; return losses and weights of each."""

    def run(make: MakeModel, path: Path, folder: Path, resume: Any = None) -> list[Any]:
        def job() -> Any:
            watcher = train(make, path, folder, 4, resume, devices=2, strategy="ddp")
            return watcher.losses, watcher.ends

        return two_ranks(job)

    return run


@pytest.fixture
def half_with_pictures(color_questions: Callable[[list[bool]], Path]) -> Path:
    """Sixteen samples, of which the second rank's in the first step are text only."""
    order = [slot.samples[0] for slot in TrainingOrder(16, seed=0)(epoch=0)]
    shown = [True] * 16
    for sample in order[4:8]:
        shown[sample] = False
    return color_questions(shown)


def test_two_processes_train_as_one_through_every_change_of_stage(
    tiny_model: MakeModel, half_with_pictures: Path, tmp_path: Path, two_processes: Any
) -> None:
    one = train(tiny_model, half_with_pictures, tmp_path / "one", 8, devices=1)
    first, second = two_processes(tiny_model, half_with_pictures, tmp_path)
    assert first[0] == second[0]
    assert len(one.losses) == 9
    assert_close(first[0], one.losses, rtol=0, atol=1e-4)
    for step, weights in one.ends.items():
        for name, value in weights.items():
            assert torch.equal(first[1][step][name], second[1][step][name]), (step, name)
            assert_close(first[1][step][name], value, rtol=0, atol=1e-4)


@pytest.mark.parametrize("stage", ["align", "tune", "all"])
def test_two_processes_resume_at_a_change_of_stage(
    tiny_model: MakeModel, half_with_pictures: Path, tmp_path: Path, two_processes: Any, stage: str
) -> None:
    whole = two_processes(tiny_model, half_with_pictures, tmp_path)
    saved = tmp_path / "checkpoints" / f"stage-{stage}.ckpt"
    begun = torch.load(saved)["global_step"]
    rest = two_processes(tiny_model, half_with_pictures, tmp_path, saved)
    for before, after in zip(whole, rest, strict=True):
        assert after[0] == before[0][begun:]
        for name, value in before[1][9].items():
            assert torch.equal(after[1][9][name], value), name
