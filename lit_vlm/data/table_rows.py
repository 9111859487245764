"""Rows of CSV, TSV and JSON Lines files, with their places for messages."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lit_vlm.conversation import BadSampleError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
TABLES = (*_DELIMITERS, ".jsonl")
"""Endings of files that can be read."""


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        where: file and line, for messages.
        values: its cells by column.
    """

    where: str
    values: dict[str, Any]


def table_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a table, which must have some columns.

    Args:
        path: a CSV or TSV file with a first line of column names, or JSON Lines.
        columns: those that must be there.

    Raises:
        FileNotFoundError: if there is no such file.
        BadSampleError: if the file has another ending, is not UTF-8, has no rows, lacks a column,
            or a row is malformed.
    """
    if path.suffix.lower() not in TABLES:
        raise BadSampleError(
            f"{path}: must be one of {', '.join(TABLES)} by its ending, got {path.suffix!r}."
        )
    if not path.is_file():
        raise FileNotFoundError(f"path must be a file, got {path}, which does not exist.")
    rows = _json_rows if path.suffix.lower() == ".jsonl" else _csv_rows
    found = False
    try:
        for row in rows(path, columns):
            found = True
            yield row
    except UnicodeDecodeError as error:
        raise BadSampleError(
            f"{path}: must be UTF-8, got the byte {error.object[error.start]:#04x}. Convert the "
            f"file."
        ) from error
    if not found:
        raise BadSampleError(f"{path}: must hold at least one row, got none.")


def _csv_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = _DELIMITERS[path.suffix.lower()]
        cells = csv.reader(file, delimiter=delimiter, strict=True)
        begin = 0
        try:
            header = next(cells, [])
            _check_columns(str(path), header, columns)
            begin = cells.line_num
            for row in cells:
                if row:
                    yield _named(f"{path}:{begin + 1}", header, row)
                begin = cells.line_num
        except csv.Error as error:
            raise BadSampleError(
                f"{path}:{begin + 1}: quotes must enclose a whole cell, and be doubled inside of "
                f"one; got a row that is malformed ({error})."
            ) from error


def _named(where: str, header: list[str], row: list[str]) -> Row:
    if len(row) != len(header):
        raise BadSampleError(
            f"{where}: must have {len(header)} cells ({', '.join(header)}), got {len(row)}. Put "
            f"text that holds the delimiter in quotes."
        )
    return Row(where, dict(zip(header, row, strict=True)))


def _json_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            where = f"{path}:{line}"
            try:
                values = json.loads(text)
            except json.JSONDecodeError as error:
                raise BadSampleError(
                    f"{where}: each line must be one whole JSON object, got one that is malformed "
                    f"at column {error.colno} ({error.msg})."
                ) from error
            if not isinstance(values, dict):
                raise BadSampleError(
                    f"{where}: each line must be a JSON object, got a {type(values).__name__}."
                )
            _check_columns(where, list(values), columns)
            yield Row(where, values)


def _check_columns(where: str, there: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [column for column in wanted if column not in there]
    if missing:
        raise BadSampleError(
            f"{where}: must have the columns {', '.join(wanted)}, but lacks {', '.join(missing)}; "
            f"there are: {', '.join(there) or 'none'}. Name others in the source's arguments."
        )
