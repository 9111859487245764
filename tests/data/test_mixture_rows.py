from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_vlm.data.mixture_rows import MixtureRows

WEIGHTS = st.lists(
    st.one_of(
        st.integers(1, 50).map(Fraction),
        st.floats(1e-6, 1e3, allow_nan=False).map(Fraction),
    ),
    min_size=1,
    max_size=9,
)


@settings(deadline=None)
@given(weights=WEIGHTS, rows=st.integers(1, 250))
def test_no_source_is_ever_a_whole_row_from_its_share(weights: list[Fraction], rows: int) -> None:
    mixed = MixtureRows(weights)
    counts = [0] * len(weights)
    for done, source in enumerate(mixed.sources(0, rows).tolist(), start=1):
        counts[source] += 1
        for count, weight in zip(counts, weights, strict=True):
            assert abs(count - weight / sum(weights) * done) < 1


@settings(deadline=None)
@given(weights=WEIGHTS, begin=st.integers(0, 200), length=st.integers(0, 60))
def test_a_row_depends_on_its_place_alone(weights: list[Fraction], begin: int, length: int) -> None:
    whole = MixtureRows(weights).sources(0, 260)
    later = MixtureRows(weights)
    assert later.sources(begin, begin + length).tolist() == whole[begin : begin + length].tolist()
    assert later.counts(begin) == np.bincount(whole[:begin], minlength=len(weights)).tolist()
    assert later.sources(0, 260).tolist() == whole.tolist()


def test_rows_far_away_are_found_by_whole_periods() -> None:
    mixed = MixtureRows([Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)])
    far = 6 * 10**15
    assert mixed.counts(far) == [far // 2, far // 3, far // 6]
    assert mixed.sources(far + 1, far + 5).tolist() == mixed.sources(1, 5).tolist()
