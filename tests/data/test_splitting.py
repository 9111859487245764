from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lit_vlm.conversation import Conversation
from lit_vlm.data.sources import ConversationSource, Subset
from lit_vlm.data.splitting import hold_out, image_groups, shared_images


class _Images(ConversationSource):
    """Samples of which only the images are known."""

    def __init__(self, keys: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.keys = [tuple(of_sample) for of_sample in keys]

    def prepare(self) -> None:
        pass

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Conversation:
        return Conversation(str(index), ())

    def image_keys(self, index: int) -> tuple[int, ...]:
        return self.keys[index]

    def lengths(self) -> NDArray[np.int64]:
        return np.arange(len(self)) * 10


def test_groups_samples_through_shared_images() -> None:
    source = _Images([[1], [2], [1, 3], [4], [], [3, 5], [], [5], [2]])
    groups = [[index for _, index in group] for group in image_groups([source])]
    assert groups == [[0, 2, 5, 7], [1, 8], [3], [4], [6]]


def train_and_val(source: _Images, share: float, seed: int) -> tuple[Subset, Subset]:
    parts = hold_out([source], {"val": share}, seed)[0]
    return parts["train"], parts["val"]


@settings(deadline=None)
@given(
    keys=st.lists(st.lists(st.integers(0, 12), max_size=3), min_size=2, max_size=30),
    share=st.floats(0.1, 0.9),
    seed=st.integers(0, 5),
)
def test_no_image_is_on_both_sides(keys: list[list[int]], share: float, seed: int) -> None:
    source = _Images(keys)
    groups = len(image_groups([source]))
    if not 0 < round(groups * share) < groups:
        return
    train, val = train_and_val(source, share, seed)
    assert shared_images(train, val) == 0
    assert sorted(train.indices + val.indices) == list(range(len(keys)))
    assert train.indices == sorted(train.indices)
    assert val.indices == sorted(val.indices)
    assert len(image_groups([val])) == round(groups * share)
    again = train_and_val(source, share, seed)
    assert [side.indices for side in again] == [train.indices, val.indices]


def test_another_seed_holds_others_out() -> None:
    source = _Images([[i] for i in range(50)])
    sides = [train_and_val(source, 0.2, seed)[1].indices for seed in (0, 1)]
    assert sides[0] != sides[1]
    assert [len(side) for side in sides] == [10, 10]


def test_a_split_more_leaves_those_before_it_alone() -> None:
    source = _Images([[i // 3] for i in range(90)])
    train, val = train_and_val(source, 0.2, seed=4)
    parts = hold_out([source], {"val": 0.2, "selection": 0.1}, seed=4)[0]
    assert parts["val"].indices == val.indices
    assert len(parts["selection"]) == 9
    assert shared_images(parts["val"], parts["selection"]) == 0
    assert shared_images(parts["train"], parts["selection"]) == 0
    assert sorted(parts["train"].indices + parts["selection"].indices) == train.indices
    with pytest.raises(ValueError, match=r"selection must leave images on both sides, got .* 0\.8"):
        hold_out([source], {"val": 0.2, "selection": 0.8}, seed=4)


def test_a_side_is_a_source_of_its_own() -> None:
    source = _Images([[i] for i in range(10)])
    _, val = train_and_val(source, 0.3, seed=0)
    assert len(val) == 3
    assert [val[i].id for i in range(3)] == [str(i) for i in val.indices]
    assert [val.image_keys(i) for i in range(3)] == [(i,) for i in val.indices]
    assert val.lengths().tolist() == [10 * i for i in val.indices]


@pytest.mark.parametrize(
    ("keys", "share"),
    [([[1], [1], [1]], 0.5), ([[1], [2]], 0.0), ([[1], [2]], 1.0), ([[1], [2], [3]], 0.1)],
)
def test_refuses_to_leave_a_side_empty(keys: list[list[int]], share: float) -> None:
    message = rf"val must leave images on both sides, got the share {share} of \d groups"
    with pytest.raises(ValueError, match=message):
        train_and_val(_Images(keys), share, seed=0)


def test_names_the_file_of_the_source_that_is_too_small() -> None:
    source: Any = _Images([[1], [1]])
    source.path = Path("few.jsonl")
    with pytest.raises(ValueError, match=r"samples of a _Images \(few\.jsonl\) that share"):
        hold_out([source], {"val": 0.5}, seed=0)


def test_counts_images_that_two_sources_share() -> None:
    assert shared_images(_Images([[1], [1, 2], [3]]), _Images([[2, 2], [3], [4], []])) == 2


@settings(deadline=None, max_examples=50)
@given(
    keys=st.lists(
        st.lists(st.lists(st.integers(0, 40), max_size=2), min_size=8), min_size=2, max_size=3
    ),
    seed=st.integers(0, 5),
)
def test_sources_about_the_same_images_hold_the_same_images_out(
    keys: list[list[list[int]]], seed: int
) -> None:
    sources = [_Images(of_source) for of_source in keys]
    try:
        parts = hold_out(sources, {"val": 0.3}, seed)
    except ValueError:
        return  # a source of which all hangs together
    for one in parts:
        assert all(shared_images(one["train"], other["val"]) == 0 for other in parts)
    for source, part in zip(sources, parts, strict=True):
        assert sorted(part["train"].indices + part["val"].indices) == list(range(len(source)))


def test_sources_of_their_own_images_are_split_each_for_itself() -> None:
    one, other = _Images([[i] for i in range(40)]), _Images([[100 + i] for i in range(10)])
    together = hold_out([one, other], {"val": 0.2}, seed=3)
    for source, parts in zip((one, other), together, strict=True):
        assert parts["val"].indices == hold_out([source], {"val": 0.2}, seed=3)[0]["val"].indices
