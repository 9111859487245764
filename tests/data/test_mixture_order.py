from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_vlm.data.grouping import BatchGrouping
from lit_vlm.data.mixture_order import MixtureOrder
from lit_vlm.data.rows import ShuffledRows, Slot
from lit_vlm.data.sampling import BatchSampler

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=4)


def parts(sizes: list[int]) -> dict[int, list[int]]:
    ends = np.cumsum(sizes).tolist()
    return {k: list(range(e - n, e)) for k, (e, n) in enumerate(zip(ends, sizes, strict=True))}


def order_of(sizes: list[int], weights: list[int], **options: object) -> MixtureOrder:
    sources = {k: ShuffledRows(samples) for k, samples in parts(sizes).items()}
    shares = [Fraction(weight) for weight in weights]
    return MixtureOrder(sources, shares, **{"seed": 3, **options})  # type: ignore[arg-type]


def samples(slots: list[Slot]) -> list[int]:
    return [i for slot in slots for i in slot.samples]


@settings(deadline=None)
@given(
    sizes=SIZES,
    weights=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    drop=st.integers(0, 5),
)
def test_every_prefix_of_a_run_has_the_shares_and_no_sample_comes_too_early(
    sizes: list[int], weights: list[int], drop: int
) -> None:
    weights = weights[: len(sizes)]
    rows = sum(sizes)
    order = order_of(sizes, weights, advance=max(1, rows - drop))
    stream = [i for epoch in range(5) for i in samples(order(epoch)[: order.advance])]
    home = {i: source for source, own in parts(sizes).items() for i in own}
    counts: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    for done, sample in enumerate(stream, start=1):
        source = home[sample]
        counts[source] += 1
        seen[sample] += 1
        for place, weight in enumerate(weights):
            assert abs(counts[place] - Fraction(weight, sum(weights)) * done) < 1
        # The n-th time of a sample comes only when all of its source have come n - 1 times.
        assert min(seen[i] for i in parts(sizes)[source]) >= seen[sample] - 1


@settings(deadline=None)
@given(
    sizes=SIZES,
    weights=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    batch=st.integers(1, 3),
    position=st.integers(0, 25),
    drop_last=st.booleans(),
    grouped=st.booleans(),
    first=st.integers(0, 3),
)
def test_a_run_resumes_anywhere_on_any_number_of_ranks(
    sizes: list[int],
    weights: list[int],
    batch: int,
    position: int,
    drop_last: bool,
    grouped: bool,
    first: int,
) -> None:
    rows, step = sum(sizes), 2 * batch
    if drop_last and rows < step:
        return
    grouping = BatchGrouping(step, np.arange(rows) % 5, np.arange(rows) % 3 > 0)
    options = {
        "advance": rows // step * step if drop_last else rows,
        "first": first,
        "grouping": grouping if grouped else None,
    }

    def sampler(ranks: int, rank: int, position: int) -> BatchSampler:
        order = order_of(sizes, weights[: len(sizes)], **options)
        return BatchSampler(order, step // ranks, ranks, rank, drop_last, position)

    whole = sampler(1, 0, 0)
    alone = [slots for _ in range(position // len(whole) + 2) for slots in whole]
    later = [sampler(2, rank, position) for rank in range(2)]
    shared = [
        [slot for part in parts for slot in part if not slot.repeated]
        for parts in zip(*later, strict=True)
    ]
    assert shared == alone[position : position + len(shared)]
    assert len(shared) == len(whole) - position % len(whole)


@settings(deadline=None)
@given(
    sizes=SIZES,
    weights=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    epoch=st.integers(0, 3),
    row=st.integers(0, 48),
    grouped=st.booleans(),
)
def test_counts_what_came(
    sizes: list[int], weights: list[int], epoch: int, row: int, grouped: bool
) -> None:
    rows = sum(sizes)
    grouping = BatchGrouping(2, np.arange(rows), np.arange(rows) % 2 == 0) if grouped else None
    order = order_of(sizes, weights[: len(sizes)], advance=max(1, rows - 1), grouping=grouping)
    row = min(row, order.advance)
    came = [i for e in range(epoch) for i in samples(order(e)[: order.advance])]
    came += samples(order(epoch)[:row])
    expected = [sum(i in own for i in came) for own in parts(sizes).values()]
    assert order.counts(epoch, row) == expected


def test_shares_by_size_show_each_sample_once_a_pass() -> None:
    order = order_of([7, 2, 4], [7, 2, 4])
    for epoch in range(3):
        assert sorted(samples(order(epoch))) == list(range(13))


def test_rows_are_joined_within_a_source_alone() -> None:
    groups = [[0, 1, 5, 6], [2, 3, 4], [7]]
    sources = {0: ShuffledRows(range(5), groups, 2), 1: ShuffledRows(range(5, 8), groups, 2)}
    order = MixtureOrder(sources, [Fraction(1), Fraction(2)], seed=0)
    assert order.rows == 5  # of 2 + 2 + 1, and 2 + 1 samples
    slots = [slot for epoch in range(4) for slot in order(epoch)]
    assert {len(slot.samples) for slot in slots} == {1, 2}
    assert all(len({i < 5 for i in slot.samples}) == 1 for slot in slots)
    assert sum(slot.samples[0] >= 5 for slot in slots) == pytest.approx(20 * 2 / 3, abs=1)


def test_a_stage_begins_a_stream_of_its_own() -> None:
    run, stage = order_of([9, 9], [1, 3]), order_of([9, 9], [1, 3], first=2)
    shares = [[slot.samples[0] < 9 for slot in order] for order in (run(0), stage(2))]
    assert shares[0] == shares[1]
    assert run(0) != stage(2)
    assert stage(0) == stage(2)  # what samplers look at for the number of rows
    assert order_of([9, 9], [1, 3], seed=4)(0) != run(0)
