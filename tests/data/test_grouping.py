import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_vlm.data.grouping import BatchGrouping
from lit_vlm.data.rows import Slot
from lit_vlm.data.sampling import TrainingOrder


@settings(deadline=None)
@given(
    with_images=st.integers(0, 40),
    without=st.integers(0, 40),
    size=st.integers(1, 9),
    by_length=st.booleans(),
    seed=st.integers(0, 5),
)
def test_batches_are_of_one_kind_but_for_what_is_left_at_the_end(
    with_images: int, without: int, size: int, by_length: bool, seed: int
) -> None:
    shows = np.array([True] * with_images + [False] * without, dtype=np.bool_)
    lengths = np.arange(len(shows)) % 7 if by_length else None
    group = BatchGrouping(size, lengths, shows)
    slots = [Slot((i,)) for i in np.random.default_rng(seed).permutation(len(shows)).tolist()]
    grouped = group(list(slots), np.random.default_rng(seed))
    assert sorted(grouped) == sorted(slots)
    whole = with_images // size + without // size
    batches = [grouped[i : i + size] for i in range(0, whole * size, size)]
    kinds = [{bool(shows[slot.samples[0]]) for slot in batch} for batch in batches]
    assert all(len(kind) == 1 for kind in kinds)
    assert sum(kind == {True} for kind in kinds) == with_images // size
    left = [bool(shows[slot.samples[0]]) for slot in grouped[whole * size :]]
    assert left == [True] * (with_images % size) + [False] * (without % size)


def test_kinds_come_mixed_and_lengths_together() -> None:
    shows = np.arange(400) % 2 == 0
    lengths = np.random.default_rng(0).integers(1, 100, 400)
    order = TrainingOrder(400, 0, lengths=lengths, global_batch_size=10, shows_images=shows)
    batches = [order(0)[i : i + 10] for i in range(0, 400, 10)]
    kinds = [bool(shows[batch[0].samples[0]]) for batch in batches]
    assert 5 < sum(a != b for a, b in zip(kinds, kinds[1:], strict=False))
    spread = [np.ptp([lengths[slot.samples[0]] for slot in batch]) for batch in batches]
    assert max(spread) < 30
    assert order(0) != order(1)
