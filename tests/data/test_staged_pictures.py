"""Stages that read batches of pictures of their own."""

import json
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

    def run(
        save_at: int | None = None,
        checkpoint: Path | None = None,
        stages: dict[str, Stage] = STAGES,
    ) -> list[list[int]]:
        vit = {"embed_dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
        encoder = TimmEncoder("test_vit", image_size=16, mean=HALF, std=HALF, config=vit)
        model = Kept(encoder, num_classes=2)
        model.save_at, model.save_to = save_at, tmp_path / "stopped.ckpt"
        data = ImageClassificationDataModule(sources)
        callbacks = [StagedFreezing(stages), RNGState()]
        reading.fit(model, data, tmp_path, checkpoint, callbacks=callbacks, max_epochs=-1)
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


MIXED = {
    "head": Stage(trains=["head"], data={"few": 3.0, "many": 1.0}, batch_size=4, epochs=2),
    "both": Stage(trains=["head", "encoder"], temperature=2, batch_size=5, steps=4),
}


@pytest.mark.parametrize("stopped_at", [2, 6, 8])
def test_stages_mix_sources_by_weights_and_resume(
    run: Callable[..., list[list[int]]], tmp_path: Path, stopped_at: int
) -> None:
    whole = run(stopped_at, stages=MIXED)
    # A pass of twelve pictures is three batches of 4, or two of 5: what is left comes in the next.
    assert [len(batch) for batch in whole] == [4] * 6 + [5] * 4
    head, both = sum(whole[:6], []), sum(whole[6:], [])
    assert sum(picture < 4 for picture in head) == 18
    assert {head.count(picture) for picture in range(4)} == {4, 5}
    assert {head.count(picture) for picture in range(4, 12)} == {0, 1}
    few = sum(picture < 4 for picture in both)
    assert abs(few - 20 * 2 / (2 + 8**0.5)) < 1
    mixtures = json.loads((tmp_path / "mixture.json").read_text())["mixtures"]
    given = [[source["delivered_rows"] for source in mixture["sources"]] for mixture in mixtures]
    assert given == [[18, 6], [few, 20 - few]]
    assert run(checkpoint=tmp_path / "stopped.ckpt", stages=MIXED) == whole[stopped_at:]


def test_refuses_what_is_no_matter_of_pictures(run: Callable[..., Any]) -> None:
    stages = {"head": Stage(trains=["head"], max_length=5, resize="pad", steps=1)}
    with pytest.raises(ValueError, match="dialogues are read, .* got resize and max_length"):
        run(stages=stages)
    stages = {"head": Stage(trains=["head"], data={"fw": 1.0}, steps=1)}
    with pytest.raises(ValueError, match=r"train \(few, many\), got 'fw'"):
        run(stages=stages)
