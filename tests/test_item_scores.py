from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer

from lit_vlm.item_scores import ItemScore, ScoreKeeper, read_scores


def kept(*outputs: Any) -> ScoreKeeper:
    keeper = ScoreKeeper()
    trainer, module = Trainer(accelerator="cpu", logger=False), LightningModule()
    for number, made in enumerate(outputs):
        keeper.on_validation_batch_end(trainer, module, made, None, number)
    keeper.on_validation_end(trainer, module)
    return keeper


def test_reads_tensors_and_lists_alike() -> None:
    tensors = {
        "scores": torch.tensor([0.5, 1.0]),
        "weights": torch.tensor([2, 3]),
        "index": torch.tensor([7, 8]),
        "groups": torch.tensor([1, 1]),
    }
    lists = {name: column.tolist() for name, column in tensors.items()}
    assert read_scores(tensors) == read_scores(lists)
    assert read_scores(lists) == [(7, ItemScore(0.5, 2.0, (1,))), (8, ItemScore(1.0, 3.0, (1,)))]


def test_an_item_may_be_in_several_groups_or_in_none() -> None:
    made = {"scores": [1.0, 0.0, 0.0], "groups": ["a.png", ("a.png", "b.png"), ()]}
    assert [item.labels for _, item in read_scores(made)] == [("a.png",), ("a.png", "b.png"), ()]


def test_an_item_that_comes_twice_counts_once() -> None:
    first, again = {"scores": [1.0, 0.0], "index": ["x", "y"]}, {"scores": [1.0], "index": ["x"]}
    assert kept(first, again).items == {
        "x": ItemScore(1.0, 1.0, ()),
        "y": ItemScore(0.0, 1.0, ()),
    }


def test_items_without_an_index_are_told_apart_by_their_place() -> None:
    keeper = kept({"scores": [1.0, 0.0]}, {"scores": [1.0]})
    assert [item.score for item in keeper.items.values()] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("made", [None, torch.zeros(()), {"loss": torch.zeros(())}])
def test_steps_that_return_no_scores_leave_no_items(made: Any) -> None:
    assert kept(made, made).items == {}


def test_refuses_scores_of_some_batches_only() -> None:
    with pytest.raises(ValueError, match="must return scores for every batch or for none"):
        kept({"scores": [1.0]}, None)


def test_refuses_lists_of_different_lengths() -> None:
    with pytest.raises(ValueError, match=r"one value per item, got \[2, 2, 1, 2\] values"):
        read_scores({"scores": [1.0, 0.0], "index": [3]})


def test_refuses_scores_that_are_not_one_number_per_item() -> None:
    with pytest.raises(ValueError, match="one number per item, got a list in them"):
        read_scores({"scores": torch.ones(3, 2)})
