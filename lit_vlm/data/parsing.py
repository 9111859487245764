"""Reading the two forms in which dialogues are stored."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_vlm.conversation import (
    ROLES,
    BadSampleError,
    BoxContent,
    Conversation,
    ImageContent,
    Role,
    Turn,
    place_boxes,
)
from lit_vlm.data.listed_boxes import BOX_MARKER, ListedBoxes
from lit_vlm.data.listed_images import (
    IMAGE_MARKER,
    ListedImages,
    checked_list,
    image_path,
)

_LLAVA_ROLES: dict[str, Role] = {"system": "system", "human": "user", "gpt": "assistant"}
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def parse_conversation(
    record: Any, *, where: str, image_root: Path, default_id: str
) -> Conversation:
    """Read a sample in LLaVA's ``conversations`` form or in the ``messages`` form.

    ``conversations`` holds turns ``{"from": "human" | "gpt" | "system", "value": text}``; each
    ``<image>`` in a text stands for the next path under ``image`` or ``images`` (one, or a list).
    ``messages`` holds ``{"role": ..., "content": text or list}``, a list mixing
    ``{"type": "text", "text": ...}`` and ``{"type": "image", "path" | "image" | "url": path}``.
    If the sample has ``images``, ``<image>`` in a text and an image part without a path stand for
    the next of them.

    A sample may list ``boxes``, each ``[left, top, right, bottom]`` in pixels of the stored
    picture; ``<bbox>`` in any text stands for the next of them. It is in the last image before it,
    unless ``box_images`` says which for each box, counted from 0. ``answers`` may list what
    several people answered to the last question.

    Args:
        record: the decoded JSON object.
        where: file and place, for messages.
        image_root: folder that relative image paths start from.
        default_id: the sample's id if it carries none.

    Raises:
        BadSampleError: if the record has not that form; the message says what was expected.
    """
    if not isinstance(record, Mapping):
        raise BadSampleError(
            f"{where}: a sample must be a JSON object, got {type(record).__name__}."
        )
    sample = default_id if record.get("id") is None else str(record["id"])
    name = f"{where} (sample {sample!r})"
    images = ListedImages(record, image_root, name)
    boxes = ListedBoxes(record, name, marked="conversations" in record)
    if "conversations" in record:
        turns = tuple(
            _llava_turn(turn, images, boxes, name)
            for turn in checked_list(record["conversations"], "conversations", name)
        )
    elif "messages" in record:
        turns = tuple(
            _message_turn(message, images, boxes, name)
            for message in checked_list(record["messages"], "messages", name)
        )
    else:
        raise BadSampleError(
            f"{name}: must have 'conversations' or 'messages', got the keys "
            f"{', '.join(sorted(map(str, record))) or '(none)'}."
        )
    images.check_all_shown()
    boxes.check_all_shown()
    _check_order(turns, name)
    return Conversation(sample, place_boxes(turns, name), where, _answers(record, name))


def _llava_turn(turn: Any, images: ListedImages, boxes: ListedBoxes, name: str) -> Turn:
    role = _role(turn, "from", _LLAVA_ROLES, name)
    return Turn(role, tuple(_split(_string(turn, "value", name), images, boxes)))


def _split(
    text: str, images: ListedImages | None, boxes: ListedBoxes
) -> list[str | ImageContent | BoxContent]:
    """Return a text with images and boxes in the places of their markers."""
    parts: list[str | ImageContent | BoxContent] = []
    for piece in re.split(f"({IMAGE_MARKER}|{BOX_MARKER})", text):
        if piece == IMAGE_MARKER and images is not None:
            parts.append(images.next())
        elif piece == BOX_MARKER and boxes.marked:
            parts.append(boxes.next())
        elif parts and isinstance(parts[-1], str):
            parts[-1] += piece
        elif piece:
            parts.append(piece)
    return parts


def _message_turn(message: Any, images: ListedImages, boxes: ListedBoxes, name: str) -> Turn:
    role = _role(message, "role", {r: r for r in ROLES}, name)
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    parts = [_pieces(part, images, boxes, name) for part in checked_list(content, "content", name)]
    return Turn(role, tuple(piece for pieces in parts for piece in pieces))


def _pieces(
    part: Any, images: ListedImages, boxes: ListedBoxes, name: str
) -> list[str | ImageContent | BoxContent]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return _split(_string(part, "text", name), images if images.paths else None, boxes)
    if kind == "image":
        path = image_path(part)
        return [images.next() if path is None and images.paths else images.at(path)]
    raise BadSampleError(
        f"{name}: each part of a content list must be an object of type 'text' or 'image', got "
        f"{part if isinstance(part, str) else kind!r}."
    )


def _role(turn: Any, key: str, known: Mapping[str, Role], name: str) -> Role:
    if not isinstance(turn, Mapping):
        raise BadSampleError(f"{name}: a turn must be an object, got {type(turn).__name__}.")
    role = turn.get(key)
    if not isinstance(role, str) or role not in known:
        raise BadSampleError(f"{name}: {key!r} must be one of {', '.join(known)}, got {role!r}.")
    return known[role]


def _string(turn: Mapping[str, Any], key: str, name: str) -> str:
    text = turn.get(key)
    if not isinstance(text, str):
        raise BadSampleError(f"{name}: {key!r} must be a string, got {type(text).__name__}.")
    if _HALF_PAIR.search(text):
        raise BadSampleError(f"{name}: {key!r} must be text, got half of a surrogate pair in it.")
    return text


def _answers(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    if record.get("answers") is None:
        return ()
    answers = checked_list(record["answers"], "answers", name)
    for answer in answers:
        if not isinstance(answer, str) or not answer.strip():
            raise BadSampleError(
                f"{name}: each of 'answers' must be a text, got {answer!r:.60}. They are what "
                f"people answered to the last question."
            )
    return tuple(answers)


def _check_order(turns: tuple[Turn, ...], name: str) -> None:
    roles = [turn.role for turn in turns]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    expected = ["user" if i % 2 == 0 else "assistant" for i in range(len(spoken))]
    if not spoken or spoken != expected:
        raise BadSampleError(
            f"{name}: the turns must be user and assistant in alternation, after an optional "
            f"system turn, got {', '.join(roles) or 'none'}."
        )
    for turn in turns:
        if turn.role != "user" and any(isinstance(p, ImageContent) for p in turn.content):
            raise BadSampleError(f"{name}: images must be in user turns, got one in {turn.role}'s.")
        if turn.role == "assistant" and not turn.text.strip():
            raise BadSampleError(f"{name}: an answer must have text, got an empty one.")
