from fractions import Fraction
from typing import Any

import pytest

from lit_vlm.data.mixture import Mixture, check_names, check_weights, mixture_of
from lit_vlm.stages import Stage

NAMES = ["a", "b", "c"]


def stage(**options: Any) -> Stage:
    return Stage(trains=["connector"], **options)


def test_weights_are_the_very_numbers_that_were_written() -> None:
    mixture = mixture_of(["a", "b"], 2, {"b": 0.3, "a": 0.1})
    assert mixture.shares([7, 100]) == [Fraction(1, 4), Fraction(3, 4)]


def test_a_temperature_weighs_sizes() -> None:
    assert Mixture(("a", "b"), (0, 1)).shares([16, 4]) == [Fraction(4, 5), Fraction(1, 5)]
    by_size = mixture_of([], 2, temperature=1)
    assert by_size.names == ("1", "2")
    assert by_size.shares([16, 4]) == [Fraction(4, 5), Fraction(1, 5)]
    assert mixture_of([], 2, temperature=2).shares([16, 4]) == [Fraction(2, 3), Fraction(1, 3)]
    assert mixture_of([], 2, temperature=1e9).shares([10**9, 1])[1] == pytest.approx(0.5)
    assert mixture_of([], 2, temperature=0.01).shares([665_000, 600_000])[1] > 0


@pytest.mark.parametrize(
    ("own", "places", "weights", "temperature"),
    [
        ({}, (0, 1, 2), (1, 2, 3), None),
        ({"data": ["c", "a"]}, (2, 0), (3, 1), None),
        ({"data": {"c": 5.0, "a": 0.5}}, (2, 0), (5, 0.5), None),
        ({"data": ["b", "c"], "temperature": 2}, (1, 2), None, 2),
        ({"temperature": 4}, (0, 1, 2), None, 4),
    ],
)
def test_what_a_stage_says_goes_before_what_the_run_does(
    own: dict[str, Any], places: tuple[int, ...], weights: Any, temperature: Any
) -> None:
    mixture = mixture_of(NAMES, 3, {"a": 1, "b": 2, "c": 3}, None, stage(**own))
    assert mixture == Mixture(tuple(NAMES[i] for i in places), places, weights, temperature)
    assert mixture.is_weighted
    assert mixture_of(NAMES, 3, None, 8, stage(data={"a": 1.0})).temperature is None
    assert not mixture_of(NAMES, 3, None, None, stage(data=["a", "b"])).is_weighted


def test_refuses_names_that_are_not_of_training() -> None:
    with pytest.raises(ValueError, match=r"training sources \(alpha, b\), got 'alhpa'\. Did you"):
        check_names("Data", ["alpha", "b"], {"alhpa": 1})
    with pytest.raises(ValueError, match=r"each training source \(a, b, c\), got none for 'c'"):
        check_names("Data", NAMES, {"a": 1, "b": 2})
    with pytest.raises(ValueError, match=r"got \{'a': 1\} for sources without\. Give train"):
        check_names("Data", [], {"a": 1})
    with pytest.raises(ValueError, match=r"must be names of the data module's train .*got 'd'"):
        mixture_of(NAMES, 3, None, None, stage(data={"d": 1.0}))
    with pytest.raises(ValueError, match=r"got 'alhpa'\. Did you mean: alpha\?"):
        mixture_of(["alpha", "b"], 2, None, None, stage(data=["alhpa"]))
    check_names("Data", [], None)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_refuses_weights_that_are_not_positive(weight: int | float) -> None:
    with pytest.raises(ValueError, match=r"^Data: weights must be positive, got .*'b'"):
        check_weights("Data", "weights", {"a": 1, "b": weight}, None)
    with pytest.raises(ValueError, match=r"^Data: temperature must be positive, got"):
        check_weights("Data", "weights", None, weight)
    with pytest.raises(ValueError, match=r"^Stages: weights \(data\) must be positive"):
        check_weights("Stages", "data", {"b": weight}, None)


def test_refuses_shares_that_are_given_twice() -> None:
    message = r"shares must be given once, got the weights \{'a': 1\.0\} \(data\) and the temp"
    with pytest.raises(ValueError, match=message):
        mixture_of(NAMES, 3, None, None, stage(data={"a": 1.0}, temperature=2))


def test_refuses_sources_that_can_have_no_share() -> None:
    with pytest.raises(ValueError, match="a source must have samples, got none in 'b'"):
        mixture_of(["a", "b"], 2, {"a": 1, "b": 1}).shares([3, 0])
    with pytest.raises(ValueError, match=r"leave each source a share, got 0\.001, which .* 'b'"):
        mixture_of(["a", "b"], 2, None, 0.001).shares([100, 1])


def test_refuses_a_source_that_is_named_twice() -> None:
    with pytest.raises(ValueError, match="must name a source once, got 'b' 2 times. Give weights"):
        mixture_of(NAMES, 3, None, None, stage(data=["b", "a", "b"]))
