"""Reading a file of dialogues past its broken lines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lit_vlm.linting.problems import Finding

_BOM = b"\xef\xbb\xbf"
_SPACES = " \n\r\t"


class Read(NamedTuple):
    """A sample as it stands in its file, or what is broken in its place.

    Attributes:
        line: the line that it begins in, from 1.
        place: how many samples precede it that can be decoded.
        record: the decoded JSON value; None if it is broken.
        broken: what is wrong, if the value cannot be decoded.
    """

    line: int
    place: int
    record: Any
    broken: Finding | None = None


def read_records(path: Path) -> Iterator[Read]:
    """Yield the samples of a JSON list or a JSON Lines file.

    A broken line of JSON Lines is passed over; a list is read up to where it breaks off.

    Raises:
        FileNotFoundError: if there is no such file.
        IsADirectoryError: if it is a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path}: must be a JSON or JSON Lines file, got a folder.")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: must be a JSON or JSON Lines file, got one that does not exist."
        )
    with path.open("rb") as file:
        start = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
        file.seek(start)
        is_list = file.read(4096).lstrip()[:1] == b"["
        file.seek(start)
        yield from _read_list(file.read()) if is_list else _read_lines(file)


def _read_lines(lines: Any) -> Iterator[Read]:
    place = 0
    for line, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        try:
            yield Read(line, place, json.loads(raw.decode()))
            place += 1
        except UnicodeDecodeError as error:
            yield Read(line, place, None, _not_utf8(raw[error.start], error.start))
        except (ValueError, RecursionError) as error:
            why = str(error)
            if isinstance(error, json.JSONDecodeError):  # which counts lines within the text
                what = error.msg.removesuffix(" starting at")
                why = f"{what} at character {error.colno} of line {line} of the file"
            message = f"each line must be one whole JSON object, got one that is not ({why})"
            yield Read(line, place, None, Finding("broken_line", message))


def _read_list(raw: bytes) -> Iterator[Read]:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        yield Read(line, 0, None, _not_utf8(raw[error.start], error.start))
        return
    yield from _read_items(text)


def _read_items(text: str) -> Iterator[Read]:
    decode = json.JSONDecoder().raw_decode
    position, place = _skip(text, text.index("[") + 1), 0
    counted, line = 0, 1
    while text[position : position + 1] != "]":
        line += text.count("\n", counted, position)
        counted = position
        try:
            record, end = decode(text, position)
        except (ValueError, StopIteration, RecursionError) as error:
            yield Read(line, place, None, _breaks_off(str(error)))
            return
        yield Read(line, place, record)
        place += 1
        position = _skip(text, end)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        elif text[position : position + 1] != "]":
            broken = _breaks_off("neither a comma nor a closing bracket follows")
            yield Read(_line_at(text, position), place, None, broken)
            return
    position = _skip(text, position + 1)
    if rest := text[position : position + 30]:
        broken = Finding("broken_line", f"nothing must follow the list, got {rest!r}")
        yield Read(_line_at(text, position), place, None, broken)


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _skip(text: str, position: int) -> int:
    while text[position : position + 1] and text[position] in _SPACES:
        position += 1
    return position


def _breaks_off(why: str) -> Finding:
    message = f"the list must be whole JSON, got one that breaks off here ({why})"
    return Finding("broken_line", f"{message}; the rest was not read")


def _not_utf8(byte: int, place: int) -> Finding:
    return Finding("broken_line", f"must be UTF-8, got the byte {byte:#04x} at byte {place}")
