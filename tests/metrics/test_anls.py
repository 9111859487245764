import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.text import edit_distance as oracle

from lit_vlm.metrics import ANLS
from lit_vlm.metrics.anls import edit_distance


def similarity(generated: str, *answers: str, threshold: float = 0.5) -> float:
    metric = ANLS(threshold)
    metric.update([generated], [answers], [0])
    return float(metric.compute())


@pytest.mark.parametrize(
    ("generated", "answers", "worth"),
    [
        ("abcd", ["abxx"], 0.5),  # just the threshold, which the code keeps and the paper drops
        ("abcd", ["axxx"], 0),
        ("  The   Dog", ["the dog"], 1),
        ("the dog", ["a cat", "the dogs"], 7 / 8),
        ("", ["a"], 0),
        ("", [" "], 1),
    ],
)
def test_is_the_share_of_right_letters(generated: str, answers: list[str], worth: float) -> None:
    assert similarity(generated, *answers) == pytest.approx(worth)


def test_the_threshold_can_be_lowered() -> None:
    assert similarity("abcd", "axxx", threshold=0.0) == 0.25


letters = st.text("ab c", max_size=9)


@given(letters, letters)
def test_the_distance_is_that_of_torchmetrics(one: str, other: str) -> None:
    assert edit_distance(one, other) == int(oracle([one], [other], reduction="sum"))


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_refuses_a_threshold_that_is_no_share(threshold: float) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 1, got {threshold}"):
        ANLS(threshold)
