import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vlm.metrics import RelaxedAccuracy


def is_right(generated: str, *answers: str) -> bool:
    metric = RelaxedAccuracy()
    metric.update([generated], [answers], [0])
    return bool(metric.compute())


@pytest.mark.parametrize(
    ("generated", "answer", "right"),
    [
        ("104.9", "100", True),
        ("105.1", "100", False),
        # A twentieth of the answer: 5.2 is 4.9 % of 105.2, and 4.9 is 5.2 % of 95.1.
        ("105", "100", True),
        ("100", "105.2", True),
        ("100", "95.1", False),
        ("-95", "-100", True),
        ("5%", "0.05", True),
        ("5", "5%", False),
        ("0", "0", True),
        ("0.0", "0", False),
        ("0.01", "0", False),
        ("1,000", "1000", False),
        ("Blue ", "blue", True),
        ("blue", "red", False),
        ("100", "blue", False),
        ("nan", "nan", True),
        ("inf", "5", False),
        ("5", "inf", False),
    ],
)
def test_takes_a_twentieth_of_the_answer(generated: str, answer: str, right: bool) -> None:
    assert is_right(generated, answer) is right


def test_any_of_several_answers_will_do() -> None:
    assert is_right("99", "10", "100")


def relaxed_correctness(prediction: str, target: str) -> bool:
    """pix2struct's rule, https://github.com/google-research/pix2struct, metrics.py."""

    def number(text: str) -> float | None:
        try:
            return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
        except ValueError:
            return None

    found, wanted = number(prediction), number(target)
    if found is not None and wanted:
        return abs(found - wanted) / abs(wanted) <= 0.05
    return prediction.lower() == target.lower()


numbers = st.integers(-130, 130).map(str) | st.sampled_from(["5%", "0.05", "0.0", "A", "a", "%"])


@given(numbers, numbers)
def test_equals_the_rule_of_pix2struct(generated: str, answer: str) -> None:
    assert is_right(generated, answer) == relaxed_correctness(generated, answer)


def test_refuses_a_negative_tolerance() -> None:
    with pytest.raises(ValueError, match=r"tolerance must be at least 0, got -1\."):
        RelaxedAccuracy(-1)
