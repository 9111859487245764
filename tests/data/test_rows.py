import numpy as np

from lit_vlm.data.rows import ShuffledRows, Slot, chunks


def test_only_samples_that_were_asked_for_are_joined() -> None:
    rows = ShuffledRows([0, 1, 2, 5], groups=[[0, 1, 2, 3], [4], [5, 6]], rounds=2)
    slots = rows(np.random.default_rng(0))
    assert len(rows) == len(slots) == 3
    assert sorted(i for slot in slots for i in slot.samples) == [0, 1, 2, 5]
    assert Slot((5,)) in slots


def test_one_round_joins_nothing() -> None:
    rows = ShuffledRows([3, 4], groups=[[3, 4]], rounds=1)
    assert sorted(rows(np.random.default_rng(0))) == [Slot((3,)), Slot((4,))]
    assert len(rows) == 2


def test_the_last_part_may_be_shorter() -> None:
    assert chunks([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]
