import math

import pytest

from lit_vlm.proportions import wilson_interval


@pytest.mark.parametrize(("correct", "total"), [(0, 5), (3, 17), (50, 100), (999, 1000), (5, 5)])
def test_holds_the_shares_that_would_not_be_refused(correct: int, total: int) -> None:
    """At either end the count lies 1.96 standard deviations of that end's own away."""
    interval = wilson_interval(correct, total)
    assert interval.value == correct / total
    assert interval.low <= interval.value <= interval.high
    for end in {interval.low, interval.high} - {0.0, 1.0}:
        deviations = abs(interval.value - end) / math.sqrt(end * (1 - end) / total)
        assert deviations == pytest.approx(1.959964, abs=1e-5)


def test_more_confidence_takes_more_room() -> None:
    wide, narrow = wilson_interval(30, 40, 0.99), wilson_interval(30, 40, 0.5)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_refuses_counts_that_cannot_be(correct: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"which must be at least 1, got {correct} of {total}"):
        wilson_interval(correct, total)
