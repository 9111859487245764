"""Reading the two forms in which dialogues are stored."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_vlm.conversation import ROLES, BadSampleError, Conversation, ImageContent, Role, Turn

_LLAVA_ROLES: dict[str, Role] = {"system": "system", "human": "user", "gpt": "assistant"}
_MARKER = "<image>"
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
    images = _NamedImages(record, image_root, name)
    if "conversations" in record:
        turns = tuple(
            _llava_turn(turn, images, name)
            for turn in _list(record["conversations"], "conversations", name)
        )
    elif "messages" in record:
        turns = tuple(
            _message_turn(message, images, name)
            for message in _list(record["messages"], "messages", name)
        )
    else:
        raise BadSampleError(
            f"{name}: must have 'conversations' or 'messages', got the keys "
            f"{', '.join(sorted(map(str, record))) or '(none)'}."
        )
    images.check_all_shown()
    _check_order(turns, name)
    return Conversation(sample, turns, where)


def image_names(record: Any) -> list[str]:
    """Return the image paths that a sample names, in either form; nothing is checked."""
    if not isinstance(record, Mapping):
        return []
    named = _named(record)
    names = [named] if isinstance(named, str) else list(named) if isinstance(named, list) else []
    messages = record.get("messages")
    for message in messages if isinstance(messages, list) else []:
        content = message.get("content") if isinstance(message, Mapping) else None
        parts = content if isinstance(content, list) else []
        names += [_path(part) for part in parts if isinstance(part, Mapping)]
    return [name for name in names if isinstance(name, str) and name]


class _NamedImages:
    """The images under ``image`` or ``images``, handed out to the places that show them."""

    def __init__(self, record: Mapping[str, Any], root: Path, name: str) -> None:
        named = _named(record)
        self.paths = [named] if isinstance(named, str) else _list(named, "image", name)
        self.root = root
        self.name = name
        self.shown = 0

    def next(self) -> ImageContent:
        """Return the next image; beyond the last, count on for the message."""
        self.shown += 1
        path = self.paths[self.shown - 1] if self.shown <= len(self.paths) else "missing"
        return self.at(path)

    def at(self, path: Any) -> ImageContent:
        """Return the image at a path."""
        if not isinstance(path, str) or not path:
            raise BadSampleError(f"{self.name}: an image must be a path, got {path!r}.")
        return ImageContent(str(self.root / path))

    def split(self, text: str) -> list[str | ImageContent]:
        """Return a text with images in the places of its markers."""
        pieces = re.split(f"({_MARKER})", text)
        return [self.next() if piece == _MARKER else piece for piece in pieces if piece]

    def check_all_shown(self) -> None:
        """Raise if there are more or fewer places than images."""
        if self.shown != len(self.paths):
            raise BadSampleError(
                f"{self.name}: must have one {_MARKER} in its texts for each image, got "
                f"{self.shown} markers and {len(self.paths)} images."
            )


def _named(record: Mapping[str, Any]) -> Any:
    named = (record.get(key) for key in ("image", "images"))
    return next((images for images in named if images is not None), [])


def _llava_turn(turn: Any, images: _NamedImages, name: str) -> Turn:
    role = _role(turn, "from", _LLAVA_ROLES, name)
    return Turn(role, tuple(images.split(_string(turn, "value", name))))


def _message_turn(message: Any, images: _NamedImages, name: str) -> Turn:
    role = _role(message, "role", {r: r for r in ROLES}, name)
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    parts = [_pieces(part, images, name) for part in _list(content, "content", name)]
    return Turn(role, tuple(piece for pieces in parts for piece in pieces))


def _pieces(part: Any, images: _NamedImages, name: str) -> list[str | ImageContent]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        text = _string(part, "text", name)
        if images.paths:
            return images.split(text)
        return [text] if text else []
    if kind == "image":
        path = _path(part)
        return [images.next() if path is None and images.paths else images.at(path)]
    raise BadSampleError(
        f"{name}: each part of a content list must be an object of type 'text' or 'image', got "
        f"{part if isinstance(part, str) else kind!r}."
    )


def _path(part: Mapping[str, Any]) -> Any:
    return next((part[key] for key in ("path", "image", "url") if key in part), None)


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


def _list(value: Any, key: str, name: str) -> list[Any]:
    if not isinstance(value, list):
        shown = f"the string {value!r}" if isinstance(value, str) else type(value).__name__
        raise BadSampleError(f"{name}: {key!r} must be a list, got {shown}.")
    return value


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
