"""Mends of a sample that leave nothing to guess."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from lit_vlm.linting.loose import BOX, FORMS, IMAGE, is_list_text, make_out

MENDS = {
    "string_to_list": "a list made of JSON in a string, or of one path, answer or box",
    "list_to_string": "a list of one string made the string",
    "role_name": "a role's name of the other form, or in other letters, made this form's",
    "trimmed_answer": "white space taken off the ends of an answer",
    "dropped_question": "a last question without an answer dropped",
    "made_id": "an id given to a sample that had none",
    "unique_id": "an id that an earlier sample has made unique",
    "moved_paths": "image paths made relative to the new file's folder",
}
"""What may be done to a sample, by name."""


def mend(record: Any, asks_only: bool = False) -> tuple[Any, list[str]]:
    """Return a mended copy of a sample, and the names of what was done, each once.

    Args:
        record: the decoded JSON value.
        asks_only: whether questions stand without answers on purpose.
    """
    form = next((form for form in FORMS if isinstance(record, dict) and form in record), None)
    if form is None:
        return record, []
    mended = copy.deepcopy(record)
    done: list[str] = []
    for name, change in _CHANGES:
        if change(mended, form) and name not in done:
            done.append(name)
    if not asks_only and _drop_question(mended, form):
        done.append("dropped_question")
    return mended, done


def _lists(record: dict[str, Any], form: str) -> bool:
    changed = False
    for key in (form, "boxes", "image", "images", "answers"):
        if isinstance(record.get(key), str) and (read := _json_list(record[key])) is not None:
            record[key], changed = read, True
    images, answers = record.get("images"), record.get("answers")
    if record.get("image") is None and isinstance(images, str) and not is_list_text(images):
        record["images"], changed = [images], True
    if isinstance(answers, str) and not answers.lstrip().startswith("["):
        record["answers"], changed = [answers], True
    box = record.get("boxes")
    if isinstance(box, list) and len(box) == 4 and all(isinstance(n, int | float) for n in box):
        record["boxes"], changed = [box], True
    return changed


def _json_list(text: str) -> list[Any] | None:
    try:
        read = json.loads(text)
    except ValueError:
        return None
    return read if isinstance(read, list) else None


def _strings(record: dict[str, Any], form: str) -> bool:
    changed = False
    for turn in _turns(record, form):
        held = [turn] if form == "conversations" else _parts(turn)
        key = "value" if form == "conversations" else "text"
        for holder in held:
            text = holder.get(key)
            if isinstance(text, list) and len(text) == 1 and isinstance(text[0], str):
                holder[key], changed = text[0], True
    return changed


def _roles(record: dict[str, Any], form: str) -> bool:
    key, _, known = FORMS[form]
    names = {name: name for name in known}
    for _, _, others in FORMS.values():
        for other, role in others.items():
            names.setdefault(other, next(name for name in known if known[name] == role))
    changed = False
    for turn in _turns(record, form):
        said = turn.get(key)
        if isinstance(said, str) and said not in known and said.strip().lower() in names:
            turn[key], changed = names[said.strip().lower()], True
    return changed


def _answers(record: dict[str, Any], form: str) -> bool:
    changed = False
    role_key, text_key, known = FORMS[form]
    for turn in _turns(record, form):
        if known.get(str(turn.get(role_key))) != "assistant":
            continue
        texts = [(turn, text_key)] if isinstance(turn.get(text_key), str) else []
        texts = texts or [(part, "text") for part in _parts(turn) if part.get("type") == "text"]
        if not texts or not all(isinstance(holder[key], str) for holder, key in texts):
            continue
        for (holder, key), strip in ((texts[0], str.lstrip), (texts[-1], str.rstrip)):
            changed |= holder[key] != strip(holder[key])
            holder[key] = strip(holder[key])
    return changed


def _drop_question(record: dict[str, Any], form: str) -> bool:
    turns = make_out(record).turns
    roles = [turn.role for turn in turns]
    if roles[-1:] != ["user"] or "assistant" not in roles:
        return False
    last = record[form][-1]
    if turns[-1].shown or any(mark in json.dumps(last) for mark in (IMAGE, BOX)):
        return False  # which of the images it shows would have to go, too
    record[form].pop()
    return True


def _turns(record: dict[str, Any], form: str) -> Iterator[dict[str, Any]]:
    turns = record.get(form)
    return (turn for turn in (turns if isinstance(turns, list) else []) if isinstance(turn, dict))


def _parts(turn: dict[str, Any]) -> list[dict[str, Any]]:
    content = turn.get("content")
    parts = content if isinstance(content, list) else []
    return [part for part in parts if isinstance(part, dict)]


_CHANGES: tuple[tuple[str, Callable[[dict[str, Any], str], bool]], ...] = (
    ("string_to_list", _lists),
    ("list_to_string", _strings),
    ("role_name", _roles),
    ("trimmed_answer", _answers),
)
