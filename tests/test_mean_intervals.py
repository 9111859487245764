import numpy as np
import pytest

from lit_vlm.mean_intervals import mean_interval
from lit_vlm.proportions import wilson_interval


def test_right_and_wrong_of_independent_samples_have_wilsons() -> None:
    found = mean_interval([1.0] * 7 + [0.0] * 13, [[f"{i}.png"] for i in range(20)])
    assert (found.method, found.groups) == ("wilson", 20)
    assert found.interval == wilson_interval(7, 20)


def test_samples_that_share_an_image_are_drawn_together() -> None:
    scores = [1.0] * 20 + [0.0] * 20
    alone = mean_interval([score + 0.1 for score in scores], [[i] for i in range(40)]).interval
    paired = mean_interval([score + 0.1 for score in scores], [[i // 4] for i in range(40)])
    assert (paired.method, paired.groups) == ("bootstrap", 10)
    assert alone is not None
    assert paired.interval is not None
    assert paired.interval.value == pytest.approx(0.6)
    assert paired.interval.high - paired.interval.low > 1.5 * (alone.high - alone.low)


def test_all_right_is_not_certain() -> None:
    found = mean_interval([1.0] * 40, [[i // 2] for i in range(40)])
    assert (found.method, found.groups) == ("wilson", 20)
    assert found.interval == wilson_interval(20, 20)
    assert mean_interval([0.0] * 3, [[]] * 3).interval == wilson_interval(0, 3)


def test_too_few_groups_tell_nothing() -> None:
    few = mean_interval([0.3, 0.6, 0.9, 1.0, 0.0], [[]] * 5)
    assert (few.interval, few.groups) == (None, 5)
    assert mean_interval([0.3] * 10, [[]] * 10).interval is None


def test_scores_that_are_no_shares_have_no_interval_of_wilsons() -> None:
    found = mean_interval([0.0] * 10, [[]] * 10, is_share=False)
    assert (found.interval, found.method) == (None, "bootstrap")


def test_holds_the_true_mean_in_most_samples() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        scores = random.choice([0.0, 0.3, 0.6, 1.0], 60)
        found = mean_interval(scores.tolist(), [[]] * 60).interval
        assert found is not None
        held += found.low <= 0.475 <= found.high
    assert held >= 88
