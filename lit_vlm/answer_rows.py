"""Answers that were written down, read back to be scored."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_vlm.predictions import IN_MEMORY


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """A line of ``predictions.jsonl``.

    Attributes:
        name: the sample's id, or the line's number if it has none.
        line: the line's number, from 1.
        generated: the text that the model wrote.
        answers: all that it may be compared with; empty if the data has none.
        question: the last user turn; empty if it is not there.
        images: paths of the sample's images.
        source: name of the data source; empty if there is none.
    """

    name: str
    line: int
    generated: str
    answers: tuple[str, ...]
    question: str
    images: tuple[str, ...]
    source: str


def read_answer_rows(path: Path) -> list[AnswerRow]:
    """Return the rows of a JSON Lines file as ``lit-vlm test`` writes it.

    A row must have the text ``generated``. ``answers`` or ``answer`` is compared with it;
    ``question``, ``images``, ``source`` and ``id`` may be there.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is empty, or a line is not such a row; the message has its number.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"the answers must be a file that lit-vlm test has written, such as "
            f"RUN/predictions.jsonl, got {path}, which is no file."
        )
    with path.open("rb") as file:
        lines = [(number, line) for number, line in enumerate(file, start=1) if line.strip()]
    if not lines:
        raise ValueError(f"{path}: must hold at least one answer, got none.")
    return [_row(line, number, path) for number, line in lines]


def _row(line: bytes, number: int, path: Path) -> AnswerRow:
    where = f"{path}:{number}"
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        raise ValueError(
            f"{where}: each line must be one whole JSON object in UTF-8, got one that breaks off "
            f"or is malformed ({error})."
        ) from error
    if not isinstance(record, dict):
        raise ValueError(f"{where}: each line must be a JSON object, got {line[:60]!r}.")
    images = _texts(record, "images", where)
    return AnswerRow(
        name=str(record.get("id", f"line {number}")),
        line=number,
        generated=_generated(record, where),
        answers=_texts(record, "answers", where) or _texts(record, "answer", where),
        question=" ".join(_texts(record, "question", where)),
        images=tuple(image for image in images if image != IN_MEMORY),
        source=" ".join(_texts(record, "source", where)),
    )


def _generated(record: dict[str, Any], where: str) -> str:
    generated = record.get("generated")
    if isinstance(generated, str):
        return generated
    keys = ", ".join(map(str, record)) or "nothing"
    raise ValueError(
        f'{where}: an answer must have the text "generated", got the keys: {keys}. Give the file '
        f"that lit-vlm test or predict has written."
    )


def _texts(record: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """Return a text, or a list of them, as several; none if it is missing, null or empty."""
    value = record.get(key)
    if value is None or value == "":
        return ()
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise ValueError(f"{where}: {key!r} must be a text or a list of texts, got {value!r}.")
    return tuple(values)
