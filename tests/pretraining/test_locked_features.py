from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from lit_vlm.callbacks import RNGState
from lit_vlm.encoders import TimmEncoder
from lit_vlm.pretraining.locked_features import LockedFeatures, locked_vectors

Make = Callable[..., Any]


class Keep(Callback):
    """Write a checkpoint after a number of steps."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.step = step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(
    ("encoder", "pool", "side"),
    [("test_resnet", False, 32), ("test_vit", True, 160), ("tf_efficientnet_lite0", True, 64)],
)
def test_the_losses_are_to_the_bit_those_of_a_run_that_looks_each_time(
    towers: Make, pairs: Make, fit: Make, encoder: str, pool: bool, side: int
) -> None:
    runs = []
    for cache in (False, None):
        model = towers(
            encoder, pool, side=side, towers="Lu", cache_features=cache, dropout=0.1, loss="sigmoid"
        )
        model._is_restored = True  # weights are random here
        data = pairs(side=side, count=11, batch_size=5)
        runs.append(fit(model, data))
        assert data.seen == (0 if cache is False else 11)
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 4


def test_a_resumed_run_goes_on_to_the_bit_with_vectors_and_without(
    towers: Make, pairs: Make, fit: Make, tmp_path: Path
) -> None:
    made = []
    for cache in (True, False):
        model = towers(towers="Lu", cache_features=cache, dropout=0.1)
        model._is_restored = True
        keep = Keep(tmp_path / f"{cache}.ckpt", step=3)
        whole = fit(model, pairs(), RNGState(), keep)
        other = towers(towers="Lu", cache_features=not cache, dropout=0.1)
        made.append(whole)
        assert whole[3:] == fit(other, pairs(), RNGState(), resume=keep.path)
    assert made[0] == made[1]


def test_a_vector_depends_on_nothing_but_its_picture() -> None:
    torch.manual_seed(0)
    encoder = TimmEncoder("test_resnet", image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    images = torch.randint(0, 256, (9, 3, 32, 32)).byte()
    whole = locked_vectors(encoder, images, chunk_size=4)
    assert whole.shape == (9, 96)
    assert encoder.training
    for order in (torch.tensor([8]), torch.tensor([5, 1, 7, 3, 0])):
        assert torch.equal(locked_vectors(encoder, images[order], chunk_size=4), whole[order])


def test_a_picture_without_a_vector_is_an_error() -> None:
    table = LockedFeatures(torch.zeros(3, 2), torch.tensor([1, 0, 1]))
    assert len(table) == 2
    assert table.rows(torch.tensor([2, 0])).shape == (2, 2)
    with pytest.raises(ValueError, match="got none for picture 1 of the data set"):
        table.rows(torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="got none for picture 7 of"):
        table.rows(torch.tensor([7]))


@pytest.mark.parametrize(
    ("letters", "augmented", "message"),
    [("Uu", False, "got towers=Uu"), ("Lu", True, "got data that augments them")],
)
def test_vectors_are_not_kept_where_pictures_change(
    towers: Make, pairs: Make, fit: Make, letters: str, augmented: bool, message: str
) -> None:
    for cache in (None, True):
        model, data = towers(towers=letters, cache_features=cache), pairs()
        model._is_restored = True
        data.augment = augmented or None
        if cache:
            with pytest.raises(ValueError, match=message):
                fit(model, data)
        else:
            fit(model, data, max_steps=1)
            assert data.seen == 0
