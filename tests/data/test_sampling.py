from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_vlm.data.sampling import BatchSampler, Slot, TrainingOrder


def _flat(batches: Sequence[Sequence[Slot]]) -> list[int]:
    return [i for batch in batches for slot in batch for i in slot.samples if not slot.repeated]


def _epochs(sampler: BatchSampler, number: int) -> list[list[list[Slot]]]:
    return [list(sampler) for _ in range(number)]


GROUPS = [[0, 3, 6, 9, 12], [1, 2], [4], [5, 7, 8, 10, 11, 13]]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("sorted_", [False, True])
@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_each_sample_comes_once_an_epoch(grouped: bool, sorted_: bool, epoch: int) -> None:
    order = TrainingOrder(
        14,
        seed=1,
        groups=GROUPS if grouped else None,
        rounds=2 if grouped else 1,
        lengths=np.arange(14) ** 2 if sorted_ else None,
        global_batch_size=4,
    )
    assert sorted(_flat([order(epoch)])) == list(range(14))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    orders = {(s, e): TrainingOrder(50, seed=s)(e) for s in (0, 1) for e in (0, 1)}
    for (seed, epoch), order in orders.items():
        later = TrainingOrder(50, seed=seed)
        later(7)
        assert later(epoch) == order
    assert len({tuple(order) for order in orders.values()}) == 4


def test_samples_of_one_image_are_joined_and_no_others() -> None:
    order = TrainingOrder(14, seed=0, groups=GROUPS, rounds=3)
    home = {i: g for g, group in enumerate(GROUPS) for i in group}
    for epoch in range(4):
        slots = order(epoch)
        assert all(len({home[i] for i in slot.samples}) == 1 for slot in slots)
        # Groups of 5, 2, 1 and 6 make 2 + 1 + 1 + 2 rows of at most three.
        assert sorted(len(slot.samples) for slot in slots) == [1, 2, 2, 3, 3, 3]
    assert {slot.samples for slot in order(0)} != {slot.samples for slot in order(1)}


def test_like_lengths_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 203)

    def padding(order: TrainingOrder) -> int:
        slots = order(0)
        batches = [slots[i : i + 8] for i in range(0, len(slots), 8)]
        sizes = [[int(lengths[slot.samples[0]]) for slot in batch] for batch in batches]
        return sum(max(batch) * len(batch) - sum(batch) for batch in sizes)

    grouped = TrainingOrder(203, seed=0, lengths=lengths, global_batch_size=8)
    assert padding(grouped) < padding(TrainingOrder(203, seed=0)) / 5
    first = [int(lengths[slot.samples[0]]) for slot in grouped(0)[::8]]
    assert first != sorted(first, reverse=True)


def test_a_row_of_several_samples_is_as_long_as_they_are_together() -> None:
    lengths = np.array([1, 1, 1, 1, 2, 2, 2, 2])
    groups = [[0, 1, 2, 3], [4], [5], [6], [7]]
    order = TrainingOrder(8, 0, groups=groups, rounds=4, lengths=lengths, global_batch_size=5)
    assert sorted(order(0)[0].samples) == [0, 1, 2, 3]


@settings(deadline=None)
@given(
    num_samples=st.integers(1, 60),
    batch_size=st.integers(1, 6),
    ranks=st.integers(1, 4),
    epoch=st.integers(0, 3),
    by_length=st.booleans(),
)
def test_ranks_share_the_batches_of_one_process(
    num_samples: int, batch_size: int, ranks: int, epoch: int, by_length: bool
) -> None:
    order = TrainingOrder(
        num_samples,
        seed=3,
        lengths=np.arange(num_samples) if by_length else None,
        global_batch_size=batch_size * ranks,
    )
    alone = _epochs(BatchSampler(order, batch_size * ranks), epoch + 1)[-1]
    samplers = [BatchSampler(order, batch_size, ranks, rank) for rank in range(ranks)]
    shared = [_epochs(sampler, epoch + 1)[-1] for sampler in samplers]
    assert {len(batches) for batches in shared} == {len(alone)}
    for step, batch in enumerate(alone):
        parts = [batches[step] for batches in shared]
        assert len({len(part) for part in parts}) == 1
        assert [slot for part in parts for slot in part if not slot.repeated] == batch
    assert sorted(_flat(alone)) == list(range(num_samples))


def test_a_short_last_batch_is_shared_evenly_and_spare_rows_are_marked() -> None:
    order = [Slot((i,)) for i in range(9)]
    last = [list(BatchSampler(lambda epoch: order, 2, 4, rank))[-1] for rank in range(4)]
    spare = Slot((8,), repeated=True)
    assert last == [[Slot((8,))], [spare], [spare], [spare]]
    order = [Slot((i,)) for i in range(14)]
    last = [list(BatchSampler(lambda epoch: order, 2, 4, rank))[-1] for rank in range(4)]
    assert last == [
        [Slot((8,)), Slot((9,))],
        [Slot((10,)), Slot((11,))],
        [Slot((12,)), Slot((13,))],
        [Slot((8,), True), Slot((8,), True)],
    ]


@settings(deadline=None)
@given(
    num_samples=st.integers(1, 40),
    batch_size=st.integers(1, 5),
    ranks=st.integers(1, 3),
    rank=st.integers(0, 2),
    position=st.integers(0, 60),
    drop_last=st.booleans(),
)
def test_a_resumed_run_yields_what_an_uninterrupted_one_does(
    num_samples: int, batch_size: int, ranks: int, rank: int, position: int, drop_last: bool
) -> None:
    rank %= ranks
    if drop_last and num_samples < batch_size * ranks:
        return
    order = TrainingOrder(num_samples, seed=5)

    def sampler(position: int) -> BatchSampler:
        return BatchSampler(order, batch_size, ranks, rank, drop_last, position)

    length = len(sampler(0))
    past = position // length
    whole = [batch for epoch in _epochs(sampler(0), past + 3) for batch in epoch]
    later = sampler(position)
    assert later.epoch == past
    assert len(later) == length
    rest = [batch for epoch in _epochs(later, 3) for batch in epoch]
    assert rest == whole[position:]


def test_a_resumed_run_knows_of_epochs_that_were_cut_short() -> None:
    order = TrainingOrder(12, seed=0)
    first, second, third = _epochs(BatchSampler(order, 2), 3)
    # Two epochs of four batches instead of six, then one batch of the third.
    resumed = BatchSampler(order, 2, position=9, epoch_length=4)
    assert list(resumed) == third[1:]
    assert first[4:] != second[4:]


def test_each_iteration_is_the_next_epoch_whatever_lightning_says() -> None:
    order = TrainingOrder(12, seed=0)
    sampler = BatchSampler(order, 2)
    sampler.set_epoch(5)
    for epoch in range(3):
        assert [slot for batch in sampler for slot in batch] == order(epoch)


def test_drop_last_leaves_only_whole_batches() -> None:
    order = TrainingOrder(11, seed=0)
    batches = list(BatchSampler(order, 4, drop_last=True))
    assert [len(batch) for batch in batches] == [4, 4]
    first, second = _epochs(BatchSampler(order, 4, drop_last=True), 2)
    assert set(_flat(first)) != set(_flat(second))


def test_refuses_less_than_one_batch() -> None:
    message = r"there must be samples for one batch, got 7 for 2 x 4\. Make batch_size smaller"
    with pytest.raises(ValueError, match=message):
        BatchSampler(TrainingOrder(7, seed=0), 4, num_replicas=2, drop_last=True)
    with pytest.raises(ValueError, match=r"there must be samples for one batch, got 0"):
        BatchSampler(TrainingOrder(0, seed=0), 4)
