from collections import Counter
from itertools import count, islice

import pytest

from lit_vlm.data.shard_draws import drawn_shards, shuffled

COUNTS = (5, 0, 11, 8)


def _samples(key: tuple[int, ...], begin: int, number: int) -> list[tuple[int, int]]:
    pairs = (
        (shard, place)
        for shard, first in drawn_shards(COUNTS, key, begin)
        for place in range(first, COUNTS[shard])
    )
    return list(islice(pairs, number))


@pytest.mark.parametrize("begin", [1, 4, 5, 16, 100, 5999, 6001, 20_000])
def test_begins_anywhere_in_one_sequence(begin: int) -> None:
    whole = _samples((0, 1), 0, begin + 50)
    assert _samples((0, 1), begin, 50) == whole[begin:]


def test_draws_each_sample_equally_often_whatever_its_shards_size() -> None:
    times = Counter(_samples((3,), 0, 48_000))
    assert set(times) == {(shard, place) for shard in (0, 2, 3) for place in range(COUNTS[shard])}
    assert all(1800 < number < 2200 for number in times.values())  # 2,000 on average


def test_draws_differ_by_key() -> None:
    assert _samples((0, 1), 0, 100) != _samples((0, 2), 0, 100)


@pytest.mark.parametrize("begin", [0, 1, 7, 8, 9, 30])
def test_shuffles_within_blocks_from_anywhere(begin: int) -> None:
    whole = list(islice(shuffled(count(0), 8, (1, 2), 0), 80))
    assert sorted(whole[8:16]) == list(range(8, 16))
    assert whole[8:16] != list(range(8, 16))
    assert [item - 8 for item in whole[8:16]] != whole[:8]
    block = begin - begin % 8
    assert list(islice(shuffled(count(block), 8, (1, 2), begin), 40)) == whole[begin : begin + 40]
