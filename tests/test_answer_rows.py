import json
from pathlib import Path
from typing import Any

import pytest

from lit_vlm.answer_rows import AnswerRow, read_answer_rows

ROW = {
    "id": "s-1",
    "images": ["a.png", "(in memory)"],
    "question": "What color?",
    "answer": "red",
    "generated": "Red.",
    "correct": True,
    "source": "vqa",
    "answers": ["red", "rouge"],
}


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    return path


def test_reads_what_a_test_writes(tmp_path: Path) -> None:
    answers = ("red", "rouge")
    first = AnswerRow("s-1", 1, "Red.", answers, "What color?", ("a.png",), "vqa")
    least = AnswerRow("line 3", 3, "", (), "", (), "")
    assert read_answer_rows(written(tmp_path, ROW, {"generated": ""})) == [first, least]


def test_without_several_answers_there_is_the_one(tmp_path: Path) -> None:
    rows = [{**ROW, "answers": []}, {**ROW, "answers": [], "answer": None}]
    assert [row.answers for row in read_answer_rows(written(tmp_path, *rows))] == [("red",), ()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "must hold at least one answer, got none"),
        (b'{"generated": "a"}\n\n{"generated"', r"jsonl:3: each line must be one whole JSON obj"),
        (b'{"generated": "a"}\n\xff\n', r"jsonl:2: each line must be .* in UTF-8"),
        (b'["a"]\n', r"jsonl:1: each line must be a JSON object, got"),
        (b'{"answer": "a", "id": 5}\n', r'jsonl:1: .* text "generated", got the keys: answer, id'),
        (b'{"generated": "a", "answers": [1]}\n', r"jsonl:1: 'answers' must be a text or a list"),
    ],
)
def test_refuses_what_is_no_such_file(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=message):
        read_answer_rows(path)


def test_refuses_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="which is no file"):
        read_answer_rows(tmp_path / "none.jsonl")
