"""Checks of a sample by itself: turns, images, answers and the boxes in its words."""

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from lit_vlm.box_words import FAR
from lit_vlm.linting.loose import BOX, FORMS, LooseDialogue, make_out
from lit_vlm.linting.problems import Finding
from lit_vlm.prompts.boxes import read_boxes

_THOUSANDTHS = (1000, 1000)


def check_form(record: Any, max_answer_words: int, asks_only: bool = False) -> list[Finding]:
    """Return what is wrong with a sample, without its pictures.

    Args:
        record: the decoded JSON value.
        max_answer_words: most words that an answer should have.
        asks_only: whether questions stand without answers on purpose.
    """
    dialogue = make_out(record)
    found = list(dialogue.findings)
    if any(finding.is_error for finding in found) and not dialogue.turns:
        return found
    found += [*_check_images(dialogue), *_check_order(dialogue, asks_only)]
    found += [*_check_words(dialogue, max_answer_words), *_check_boxes(record, dialogue)]
    if isinstance(record.get("answers"), str):
        found.append(Finding("string_for_list", "'answers' must be a list, got a string"))
    if record.get("answers") == []:
        found.append(Finding("empty_answers", "'answers' should list some, got none"))
    if all(form in record for form in FORMS):
        used, passed_over = FORMS
        message = f"should have {used!r} or {passed_over!r}, got both: the latter is passed over"
        found.append(Finding("two_forms", message))
    if record.get("id") is None:
        found.append(Finding("missing_id", "should have an id, got none"))
    return found


def _check_images(dialogue: LooseDialogue) -> Iterator[Finding]:
    places = sum(turn.from_list for turn in dialogue.turns)
    listed = len(dialogue.images)
    all_seen = dialogue.listed and all(turn.readable for turn in dialogue.turns)
    if places != listed and all_seen:
        kind = "too_few_images" if places > listed else "too_many_images"
        message = f"must have one <image> in its texts for each image, got {places} and {listed}"
        yield Finding(kind, message)
    for place, turn in enumerate(dialogue.turns, start=1):
        if turn.shown and turn.role not in ("user", None):
            message = f"turn {place}: images must be in user turns, got one in {turn.role}'s"
            yield Finding("image_outside_question", message)


def _check_order(dialogue: LooseDialogue, asks_only: bool) -> Iterator[Finding]:
    roles = [turn.role for turn in dialogue.turns if turn.role is not None]
    if len(roles) < len(dialogue.turns) or not roles:
        return  # which is a finding of its own
    spoken = roles[1:] if roles[0] == "system" else roles
    expected = ["user" if i % 2 == 0 else "assistant" for i in range(len(spoken))]
    if not spoken or spoken != expected:
        message = "the turns must be user and assistant in alternation, after an optional system"
        yield Finding("misordered_roles", f"{message} turn, got {', '.join(roles)}")
    elif spoken[-1] == "user" and not asks_only:
        kind = "trailing_question" if "assistant" in spoken else "no_answer"
        yield Finding(kind, "the last turn must be the assistant's, got the user's")


def _check_words(dialogue: LooseDialogue, max_answer_words: int) -> Iterator[Finding]:
    for place, turn in enumerate(dialogue.turns, start=1):
        silent = turn.readable and not turn.text.strip()
        if turn.role == "user" and silent and not turn.shown:
            message = f"turn {place}: a question should have words or an image, got neither"
            yield Finding("empty_question", message)
        if turn.role == "assistant" and silent:
            yield Finding("empty_answer", f"turn {place}: an answer must have text, got none")
        if turn.role == "assistant" and turn.text.strip():
            yield from _check_answer(turn.text, f"turn {place}", max_answer_words)


def _check_answer(answer: str, name: str, max_words: int) -> Iterator[Finding]:
    if answer != answer.strip():
        message = f"{name}: an answer should begin and end with words, got {_ends(answer)}"
        yield Finding("surplus_space", message)
    words = len(answer.split())
    if words > max_words:
        message = f"{name}: an answer should have at most {max_words} words, got {words}"
        yield Finding("long_answer", message)


def _ends(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:15]!r} ... {text[-15:]!r}"


def _check_boxes(record: Mapping[str, Any], dialogue: LooseDialogue) -> Iterator[Finding]:
    yield from _check_box_texts(dialogue)
    boxes = record.get("boxes")
    if boxes is None and "conversations" not in record:
        return  # there, a marker without boxes is a word
    boxes = [] if boxes is None else boxes
    if isinstance(boxes, str):
        yield Finding("string_for_list", f"'boxes' must be a list, got the string {boxes[:60]!r}")
        return
    if not isinstance(boxes, list) or not all(map(_is_box, boxes)):
        message = f"'boxes' must be a list of [left, top, right, bottom], got {boxes!r}"
        yield Finding("wrong_type", message[:200])
        return
    places = sum(turn.text.count(BOX) for turn in dialogue.turns)
    if places != len(boxes) and all(turn.readable for turn in dialogue.turns):
        message = f"must have one {BOX} in its texts for each box, got {places} and {len(boxes)}"
        yield Finding("box_count", message)
    for box in boxes:
        if max(map(abs, box)) >= FAR:
            yield Finding("box_outside", f"a box must be inside its picture, got {box}"[:200])
        if box[0] >= box[2] or box[1] >= box[3]:
            message = f"a box must be [left, top, right, bottom], got {box}"
            yield Finding("box_inverted", message[:200])


def _check_box_texts(dialogue: LooseDialogue) -> Iterator[Finding]:
    for place, turn in enumerate(dialogue.turns, start=1):
        try:
            read_boxes(turn.text, _THOUSANDTHS)
        except ValueError as error:
            yield Finding("box_text", f"turn {place}: {str(error).partition(': ')[2].rstrip('.')}")
        _, opened, unclosed = turn.text.rpartition("<box>")
        if opened and "</box>" not in unclosed:
            message = f"turn {place}: a <box> must end with </box>, got {unclosed[:60]!r} behind it"
            yield Finding("box_text", message)


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(type(side) in (int, float) and abs(side) < inf for side in box)
    )
