from itertools import product
from math import comb

import numpy as np
import pytest

from lit_vlm.intervals import Interval, fewest_clusters, find_clusters, paired_bootstrap


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("ones", [4, 13])
def test_of_zeros_and_ones_it_is_the_binomial_distributions(ones: int, confidence: float) -> None:
    size = 20
    differences = (np.arange(size) < ones).astype(float)
    found = paired_bootstrap(differences, np.ones(size), np.arange(size), confidence, 20_000)
    share = ones / size
    chances = [comb(size, k) * share**k * (1 - share) ** (size - k) for k in range(size + 1)]
    tail = (1 - confidence) / 2
    wanted = [int(np.searchsorted(np.cumsum(chances), q)) / size for q in (tail, 1 - tail)]
    assert (found.value, found.low, found.high) == pytest.approx((share, *wanted))


def test_of_few_clusters_it_is_that_of_all_resamples_there_are() -> None:
    random = np.random.default_rng(2)
    clusters = random.permutation(np.arange(18) % 6)
    differences, weights = random.normal(0.2, 1.0, 18), random.uniform(0.5, 2.0, 18)
    found = paired_bootstrap(differences, weights, clusters, resamples=50_000)
    members = [np.flatnonzero(clusters == c) for c in range(6)]
    ratios = []
    for drawn in product(range(6), repeat=6):
        chosen = np.concatenate([members[c] for c in drawn])
        ratios.append(differences[chosen].sum() / weights[chosen].sum())
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert found.value == pytest.approx(differences.sum() / weights.sum())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01 * (high - low))


def test_is_as_wide_as_the_normal_distribution_says() -> None:
    differences = np.random.default_rng(5).normal(0.0, 1.0, 1000)
    found = paired_bootstrap(differences, np.ones(1000), np.arange(1000), resamples=4000)
    wanted = 2 * 1.96 * differences.std() / np.sqrt(1000)
    assert found.high - found.low == pytest.approx(wanted, rel=0.05)


def test_items_of_one_cluster_count_as_one() -> None:
    once = np.random.default_rng(6).normal(0.0, 1.0, 50)
    alone = paired_bootstrap(once, np.ones(50), np.arange(50))
    copies = paired_bootstrap(np.repeat(once, 9), np.ones(450), np.repeat(np.arange(50), 9))
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high))
    independent = paired_bootstrap(np.repeat(once, 9), np.ones(450), np.arange(450))
    assert independent.high - independent.low < 0.5 * (alone.high - alone.low)


def test_draws_in_pieces_as_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def interval(seed: int = 0) -> Interval:
        places = np.arange(20)
        return paired_bootstrap(places.astype(float), np.ones(20), places, 0.95, 100, seed)

    whole = interval()
    monkeypatch.setattr("lit_vlm.intervals._CELLS", 45)
    assert interval() == whole
    assert interval(seed=1) != whole


def test_refuses_what_no_bootstrap_can_tell_from_chance() -> None:
    assert [fewest_clusters(confidence) for confidence in (0.5, 0.9, 0.95)] == [2, 5, 6]
    message = r"there must be at least 6 clusters at the confidence 0\.95, got 5\. Score more"
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(np.ones(5), np.ones(5), np.arange(5))
    assert paired_bootstrap(np.ones(6), np.ones(6), np.arange(6)).low == 1.0


def test_a_cluster_is_found_through_what_its_items_share() -> None:
    assert find_clusters([["a"], ["b", "c"], [], ["c", 1], [1, "a"], []]).tolist() == [
        0, 0, 2, 0, 0, 5,
    ]  # fmt: skip
