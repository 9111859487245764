from pathlib import Path

import pytest

from lit_vlm.answer_rows import AnswerRow
from lit_vlm.metrics import POPE, MultipleChoice, VQAAccuracy
from lit_vlm.rescoring import rescore

FILE = Path("predictions.jsonl")


def row(line: int, generated: str, answer: str, source: str = "", question: str = "") -> AnswerRow:
    return AnswerRow(f"s{line}", line, generated, (answer,), question, (f"{line}.png",), source)


def test_scores_each_source_by_itself() -> None:
    rows = [row(1, "red", "red", "b"), row(2, "no", "yes", "a"), row(3, "red", "blue", "b")]
    found = rescore(rows, VQAAccuracy(), FILE)
    assert [(f.source, f.name, f.value, f.samples) for f in found] == [
        ("b", "vqa_accuracy", 0.5, 2),
        ("a", "vqa_accuracy", 0.0, 1),
    ]


def test_means_have_intervals_and_ratios_have_none() -> None:
    rows = [row(i, "yes" if i % 4 else "no", "yes" if i % 2 else "no") for i in range(40)]
    found = {figure.name: figure for figure in rescore(rows, POPE(), FILE)}
    accuracy = found["pope_accuracy"].sureness
    assert accuracy is not None
    assert accuracy.interval is not None
    assert accuracy.interval.low < found["pope_accuracy"].value < accuracy.interval.high
    assert found["pope_f1"].sureness is None


def test_a_metric_sees_the_question() -> None:
    rows = [row(1, "a cat", "B", question="What?\nA. a dog\nB. a cat")]
    assert rescore(rows, MultipleChoice(), FILE)[0].value == 1


def test_names_the_line_that_a_metric_cannot_judge() -> None:
    with pytest.raises(ValueError, match=r"^predictions\.jsonl:7: POPE: .* got 'red'"):
        rescore([row(3, "yes", "yes"), row(7, "yes", "red")], POPE(), FILE)


def test_a_metric_for_another_source_says_how_to_score_one_alone() -> None:
    rows = [row(1, "yes", "yes", "pope"), row(2, "dog", "dog", "vqa")]
    with pytest.raises(ValueError, match="To score one of pope, vqa alone: --source NAME"):
        rescore(rows, POPE(), FILE)
    with pytest.raises(ValueError, match="yes or no") as alone:
        rescore(rows[1:], POPE(), FILE)
    assert "--source" not in str(alone.value)
