from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vlm.metrics import POPE

Parser = Literal["first_sentence", "exact"]


def figures(
    generated: list[str], answers: list[str], parser: Parser = "first_sentence"
) -> dict[str, float]:
    metric = POPE(parser)
    metric.update(generated, answers, range(len(generated)))
    return metric.figures()


@pytest.mark.parametrize(
    ("text", "first_sentence", "exact"),
    [
        ("yes", "yes", "yes"),
        (" No\n", "yes", "no"),  # split at spaces only: the word is "No\n"
        ("No, there is no dog.", "no", "neither"),
        ("There is not. Yes", "no", "neither"),
        ("Yes. There is no cat", "yes", "neither"),
        ("NO", "yes", "no"),
        ("Nothing", "yes", "neither"),
        ("", "yes", "neither"),
    ],
)
def test_reads_texts_in_two_ways(text: str, first_sentence: str, exact: str) -> None:
    for parser, meant in (("first_sentence", first_sentence), ("exact", exact)):
        said = figures([text], ["yes"], parser)  # type: ignore[arg-type]
        assert said["pope_yes_ratio"] == (meant == "yes")
        assert figures([text], ["no"], parser)["pope_accuracy"] == (meant == "no")  # type: ignore[arg-type]


def test_by_hand() -> None:
    generated = ["yes", "yes", "yes", "no", "no", "maybe"]
    found = figures(generated, ["yes", "no", "no", "no", "yes", "yes"], "exact")
    assert found == pytest.approx(
        {
            "pope_accuracy": 2 / 6,
            "pope_precision": 1 / 3,
            "pope_recall": 1 / 3,  # what cannot be read found nothing
            "pope_f1": 1 / 3,
            "pope_yes_ratio": 3 / 6,
        }
    )


def eval_pope(texts: list[str], labels: list[str]) -> list[float]:
    """The arithmetic of LLaVA's llava/eval/eval_pope.py, with 0 instead of a division by 0."""
    said = []
    for text in texts:
        words = text.split(".")[0].replace(",", "").split(" ")
        said.append("no" if "No" in words or "not" in words or "no" in words else "yes")
    pairs = list(zip(said, labels, strict=True))
    tp, fp = pairs.count(("yes", "yes")), pairs.count(("yes", "no"))
    tn, fn = pairs.count(("no", "no")), pairs.count(("no", "yes"))
    precision, recall = tp / max(1, tp + fp), tp / max(1, tp + fn)
    f1 = 2 * precision * recall / (precision + recall) if tp else 0.0
    return [(tp + tn) / len(pairs), precision, recall, f1, said.count("yes") / len(pairs)]


texts = st.lists(st.sampled_from(["Yes", "No", "no", "not", "there", ".", ",", "is"]), max_size=5)
samples = st.tuples(texts.map(" ".join), st.sampled_from(["yes", "no"]))


@given(st.lists(samples, min_size=1, max_size=20))
def test_equals_llavas_evaluation(samples: list[tuple[str, str]]) -> None:
    generated, answers = [text for text, _ in samples], [answer for _, answer in samples]
    assert list(figures(generated, answers).values()) == pytest.approx(
        eval_pope(generated, answers), abs=1e-6
    )


def test_counts_each_sample_once_and_keeps_scores_of_means_only() -> None:
    metric = POPE()
    metric.update(["yes", "no"], ["Yes.", "yes"], [0, 1])
    metric.update(["yes"], ["yes"], [0])
    assert metric.figures()["pope_recall"] == 0.5
    assert metric.item_scores == {"pope_accuracy": [1, 0], "pope_yes_ratio": [1, 0]}


def test_refuses_answers_that_are_neither() -> None:
    with pytest.raises(ValueError, match=r"POPE: an answer in the data must be yes or no, got 'r"):
        figures(["yes"], ["red"])
