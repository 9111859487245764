"""Stages that read batches of pictures of their own."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lit_vlm.callbacks import RNGState, Stage, StagedFreezing
from lit_vlm.data import ImageClassificationDataModule, ImageFolder
from lit_vlm.encoders import TimmEncoder
from lit_vlm.pretraining.classification import ClassificationPretraining

HALF = (0.5, 0.5, 0.5)
STAGES = {
    "head": Stage(trains=["head"], data=["few"], batch_size=2, epochs=2),
    "both": Stage(trains=["head", "encoder"], batch_size=5, steps=3),
}


class Kept(ClassificationPretraining):
    """Keep which pictures each batch holds."""

    kept: list[list[int]]
    save_at: int | None = None
    save_to: Path | None = None

    def on_fit_start(self) -> None:
        self.kept = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.kept.append((batch.images[:, 0, 8, 8] // 10).tolist())
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.save_at == self.trainer.global_step:
            assert self.save_to is not None
            self.trainer.save_checkpoint(self.save_to)


@pytest.fixture
def run(
    reading: ModuleType, numbered: Callable[..., Path], tmp_path: Path
) -> Callable[..., list[list[int]]]:
    """Train in two stages; return the pictures of each batch."""
    sources = {
        "few": ImageFolder(numbered(4)),
        "many": ImageFolder(numbered(8, "more", begin=4)),
    }

    def run(save_at: int | None = None, checkpoint: Path | None = None) -> list[list[int]]:
        vit = {"embed_dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
        encoder = TimmEncoder("test_vit", image_size=16, mean=HALF, std=HALF, config=vit)
        model = Kept(encoder, num_classes=2)
        model.save_at, model.save_to = save_at, tmp_path / "stopped.ckpt"
        data = ImageClassificationDataModule(sources)
        callbacks = [StagedFreezing(STAGES), RNGState()]
        reading.fit(model, data, tmp_path, checkpoint, callbacks=callbacks, max_epochs=4)
        return model.kept

    return run


@pytest.mark.parametrize("stopped_at", [1, 3, 4, 5])
def test_stages_choose_sources_and_sizes_and_resume(
    run: Callable[..., list[list[int]]], tmp_path: Path, stopped_at: int
) -> None:
    whole = run(stopped_at)
    assert [len(batch) for batch in whole] == [2, 2, 2, 2, 5, 5, 5]
    assert sorted(whole[0] + whole[1]) == sorted(whole[2] + whole[3]) == [0, 1, 2, 3]
    assert len(set(whole[4] + whole[5])) == 10
    assert run(checkpoint=tmp_path / "stopped.ckpt") == whole[stopped_at:]
