import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

CLI = Callable[..., tuple[int, str, str]]


@pytest.fixture
def answers(write_jsonl: Callable[..., Path]) -> Path:
    """Twelve answers of VQA, one of which is unanswered in the data, and eight of POPE."""
    vqa = [
        {
            "id": f"v{i}",
            "images": [f"{i // 2}.png"],
            "question": "What?",
            "answer": "dog",
            "answers": ["dog"] * 3 + ["cat"] * 7 if i else None,
            "generated": "A dog." if i % 2 else "a bird",
            "source": "vqa",
        }
        for i in range(12)
    ]
    vqa.append({"id": "open", "answer": None, "generated": "a", "source": "vqa"})
    pope = [
        {"id": f"p{i}", "answer": "yes" if i < 6 else "no", "generated": "Yes.", "source": "pope"}
        for i in range(8)
    ]
    return write_jsonl(vqa + pope, "predictions.jsonl")


def test_scores_answers_again_without_a_model(answers: Path, tmp_path: Path, cli: CLI) -> None:
    output = tmp_path / "new" / "scores.json"
    words = ("--metric", "VQAAccuracy", "--metric.normalize", "always", "--metric", "ExactMatch")
    code, out, err = cli("score", answers, *words, "--source", "vqa", "--output", output)
    assert code == 0, err
    assert "1 of 13 rows have no answer and are left out: open" in out
    assert "45.00" in out
    assert "VQAAccuracy" not in out
    assert "normalize=always" in out.replace("\n", "")
    vqa, exact = json.loads(output.read_text())
    assert vqa["metric"]["init_args"] == {"normalize": "always"}
    assert (vqa["source"], vqa["figure"], vqa["samples"]) == ("vqa", "vqa_accuracy", 12)
    assert vqa["value"] == pytest.approx(0.45)
    # Each image has one right and one wrong answer, so that drawing images changes nothing much.
    assert (vqa["interval"], vqa["groups"]) == ("bootstrap", 6)
    assert exact["value"] == 0
    assert exact["interval"] == "wilson"


def test_each_source_is_scored_by_itself(answers: Path, cli: CLI) -> None:
    code, out, err = cli("score", answers, "--metric=ExactMatch", "--metric.ignore=full_stop")
    assert code == 0, err
    lines = [line.split() for line in out.splitlines() if "exact_match" in line]
    assert [line[1] for line in lines] == ["vqa", "pope"]
    assert "75.00" in next(line for line in out.splitlines() if "pope" in line)


def test_a_metric_may_be_given_as_json_with_parts_of_its_own(
    write_jsonl: Callable[..., Path], cli: CLI
) -> None:
    box = "[0.100,0.100,0.200,0.200]"
    path = write_jsonl([{"generated": box, "answer": box}] * 3)
    metric = {"class_path": "BoxAccuracy", "init_args": {"threshold": 0.75, "boxes": "PlainBoxes"}}
    code, out, err = cli("score", path, "--metric", json.dumps(metric))
    assert code == 0, err
    assert "mean_iou" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--metric", "VQAcuracy"], 2, "got 'VQAcuracy'. Did you mean: VQAAccuracy"),
        (["--metric", "RetrievalRecall"], 2, "got RetrievalRecall"),
        (["--metric", "ScoredAnswers"], 2, "got ScoredAnswers, which is abstract. .*ed: ANLS, Ans"),
        (["--metric", "my_missing.Metric"], 2, "module 'my_missing' must be importable"),
        (
            ["--metric", "POPE", "--metric.parsr", "x"],
            2,
            "'parsr' for .*POPE. Did you mean: parser",
        ),
        (["--metric", "POPE", "--metric.parser", "x"], 2, "one of first_sentence, exact, got 'x'"),
        (
            ["--metric", "POPE", "--source", "pop"],
            2,
            r"names \(pope, vqa\), got 'pop'. Did you mean: pope",
        ),
        (["--metric", "POPE", "--sorce", "x"], 2, "unknown option --sorce. Did you mean: --source"),
        (["--metric", "POPE"], 1, r"predictions.jsonl:1: POPE: .* must be yes or no, got 'dog'"),
        (["--metric", "POPE", "--output", "x.csv"], 2, "--output must end in .json, got x.csv"),
        (["--metric", '{"class_path"'], 2, "--metric must be a name or JSON"),
        (["--metric"], 2, "--metric must be followed by a value"),
        (["--metric.parser", "exact"], 2, "--metric.parser must follow the metric"),
        (["other.jsonl", "--metric", "POPE"], 2, "one file of answers, got 'other.jsonl' besides"),
        ([], 2, "score must be given --metric NAME"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_one_message(
    words: list[str], code: int, message: str, answers: Path, cli: CLI
) -> None:
    got, _, err = cli("score", answers, *words)
    assert got == code
    assert re.search(message, err), err
    assert "Traceback" not in err


def test_a_missing_file_and_one_without_answers_are_told(
    write_jsonl: Callable[..., Path], tmp_path: Path, cli: CLI
) -> None:
    code, _, err = cli("score", tmp_path / "none.jsonl", "--metric", "POPE")
    assert (code, "none.jsonl, which is no file" in err) == (1, True)
    path = write_jsonl([{"generated": "a"}, {"generated": "b", "answer": None}])
    code, _, err = cli("score", path, "--metric", "POPE")
    assert code == 1
    assert 'got 2 rows without "answer" or "answers"' in err
    code, _, err = cli("score", "--metric", "POPE")
    assert (code, "must be given a file of answers" in err) == (2, True)


def test_help_lists_the_options(cli: CLI) -> None:
    code, out, _ = cli("score", "--help")
    assert code == 0
    assert "--metric.KEY VALUE" in out
