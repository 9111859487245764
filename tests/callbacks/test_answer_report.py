import json
from pathlib import Path

import pytest

from lit_vlm.callbacks import AnswerReport
from lit_vlm.callbacks.answer_report import write_predictions
from lit_vlm.predictions import Prediction


def prediction(index: int, generated: str = "red") -> Prediction:
    return Prediction(index, f"id-{index}", ("a.png",), "color?", "red", generated, True)


def test_writes_each_sample_once_in_the_order_of_the_data(tmp_path: Path) -> None:
    made = [prediction(2), prediction(0), prediction(2), prediction(1, "größer")]
    write_predictions(tmp_path / "new" / "answers.jsonl", made)
    lines = (tmp_path / "new" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["id-0", "id-1", "id-2"]
    assert json.loads(lines[1])["generated"] == "größer"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["answers.jsonl"]


def test_prints_the_accuracy_beside_its_probes_with_unit_and_size(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = {
        "test/accuracy": 0.981,
        "test/accuracy_samples": 9673.0,
        "test/accuracy_blank": 0.67,
        "test/accuracy_blank_samples": 9673.0,
        "test/loss": 0.1,
    }
    AnswerReport()._print_accuracies(figures)
    AnswerReport()._print_metrics(figures)
    printed = capsys.readouterr().out
    assert "98.10%" in printed
    assert "67.00%" in printed
    assert printed.count("9,673") == 2


def test_prints_the_metrics_of_each_source_as_they_are_published(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = {
        "test/accuracy": 0.5,
        "test/accuracy_samples": 30.0,
        "test/accuracy_blank": 0.5,
        "test/accuracy_blank_samples": 30.0,
        "test/loss": 0.1,
        "test/vqa/vqa_accuracy": 0.7315,
        "test/vqa/vqa_accuracy_samples": 20.0,
        "test/vqa/vqa_accuracy_blank": 0.31,
        "test/vqa/vqa_accuracy_blank_samples": 20.0,
        "test/captions/cider": 1.25,
        "test/captions/cider_samples": 10.0,
    }
    AnswerReport()._print_metrics(figures)
    rows = [line.strip("│ ").split("│") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows if len(row) == 5]
    assert cells == [
        ["vqa", "vqa_accuracy", "the samples' own", "73.15", "20"],
        ["vqa", "vqa_accuracy", "blank", "31.00", "20"],
        ["captions", "cider", "the samples' own", "125.00", "10"],
    ]
