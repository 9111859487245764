from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_vlm.metrics import VQAAccuracy
from lit_vlm.metrics.vqa_normalization import normalize_vqa_answer


def accuracy(
    generated: str, answers: Sequence[str], normalize: Literal["official", "always"] = "official"
) -> float:
    metric = VQAAccuracy(normalize)
    metric.update([generated], [answers], [0])
    return float(metric.compute())


@pytest.mark.parametrize(("matches", "worth"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1)])
def test_is_worth_what_ten_people_say(matches: int, worth: float) -> None:
    answers = ["dog"] * matches + [f"no {i}" for i in range(10 - matches)]
    assert accuracy("A dog.", answers) == pytest.approx(worth)


def test_compares_unanimous_answers_as_they_are() -> None:
    assert accuracy("Yes", ["yes"] * 10) == 0
    assert accuracy("yes\n", [" yes"] * 10) == 1
    assert accuracy("Yes", ["yes"] * 10, "always") == 1
    assert accuracy("Yes", ["yes"] * 9 + ["no"]) == 1
    # A single answer is not unanimous, it is alone.
    assert accuracy("Yes.", ["yes"]) == 1


@pytest.mark.parametrize(
    ("answers", "worth"),
    [
        (["a1"], 1),
        (["b1"], 0),
        (["a1", "a1"], 1),
        (["a1", "b1"], 0.5),
        (["a1", "a1", "b1"], 2 / 3),
        (["a1"] * 4, 1),
        (["a1", "b1", "b1", "b1"], 0.25),
    ],
)
def test_fewer_people_can_agree_too(answers: list[str], worth: float) -> None:
    assert accuracy("a1", answers, "always") == pytest.approx(worth)


def official(generated: str, answers: list[str]) -> float:
    """The loop of vqaEval.py (GT-Vision-Lab/VQA) over who is left out."""
    others = [answers[:i] + answers[i + 1 :] for i in range(len(answers))]
    return sum(min(1, other.count(generated) / 3) for other in others) / len(answers)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["red", "A red.", "two", "2", "blue-ish"]), min_size=4, max_size=12)
)
def test_equals_leaving_each_person_out(answers: list[str]) -> None:
    normal = [normalize_vqa_answer(answer) for answer in answers]
    assert accuracy("Red", answers, "always") == pytest.approx(official("red", normal))
    if len(set(answers)) > 1:
        assert accuracy("two", answers) == pytest.approx(official("2", normal))
