"""A sample as it stands in its file, for one that is no dialogue."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lit_vlm.data.listed_images import image_path
from lit_vlm.linting.loose import FORMS


def record_lines(record: Any) -> Iterator[str]:
    r"""Yield a sample's keys, then its turns, each as far as it can be made out.

    What has another form than a turn is written as JSON; halves of surrogate pairs, which no
    terminal can print, as their codes.

    Args:
        record: the decoded JSON value.

    Example:
        >>> record = {"id": 1, "messages": [{"role": "user", "content": "hi \ud800"}, ["bye"]]}
        >>> print(*record_lines(record), sep="\n")
        id: 1
        user: hi \ud800
        ["bye"]
    """
    for line in _lines(record):
        yield line.encode(errors="backslashreplace").decode()


def _lines(record: Any) -> Iterator[str]:
    keys = record if isinstance(record, Mapping) else {}
    form = next((form for form in FORMS if isinstance(keys.get(form), list)), None)
    if form is None:
        yield from json.dumps(record, ensure_ascii=False, indent=1).splitlines()
        return
    yield from (f"{key}: {_json(value)}" for key, value in record.items() if key != form)
    yield from (_turn(turn, *FORMS[form][:2]) for turn in record[form])


def _turn(turn: Any, role_key: str, text_key: str) -> str:
    if not isinstance(turn, Mapping) or role_key not in turn or text_key not in turn:
        return _json(turn)
    text = turn[text_key]
    words = "".join(map(_part, text)) if isinstance(text, list) else _text(text)
    return f"{_text(turn[role_key])}: {words}"


def _part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "image" and image_path(part) is not None:
        return f"[{image_path(part)}]"
    return _text(part["text"]) if kind == "text" and "text" in part else _json(part)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
