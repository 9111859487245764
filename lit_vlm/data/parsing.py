"""Reading the two forms in which dialogues are stored."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from lit_vlm.conversation import ROLES, BadSampleError, Conversation, ImageContent, Role, Turn

_LLAVA_ROLES: dict[str, Role] = {"system": "system", "human": "user", "gpt": "assistant"}
_LLAVA_MARKER = "<image>"


def parse_conversation(
    record: Any, *, where: str, image_root: Path, default_id: str
) -> Conversation:
    """Read a sample in LLaVA's ``conversations`` form or in the ``messages`` form.

    ``conversations`` holds turns ``{"from": "human" | "gpt" | "system", "value": text}``; each
    ``<image>`` in a text stands for the next path under ``image`` (one path, or a list).
    ``messages`` holds ``{"role": ..., "content": text or list}``, a list mixing
    ``{"type": "text", "text": ...}`` and ``{"type": "image", "path" | "image" | "url": path}``.

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
    sample = str(record.get("id", default_id))
    name = f"{where} (sample {sample!r})"
    if "conversations" in record:
        turns = _llava_turns(record, name, image_root)
    elif "messages" in record:
        turns = tuple(
            _message_turn(message, name, image_root)
            for message in _list(record["messages"], "messages", name)
        )
    else:
        raise BadSampleError(
            f"{name}: must have 'conversations' or 'messages', got the keys "
            f"{', '.join(sorted(map(str, record))) or '(none)'}."
        )
    _check_order(turns, name)
    return Conversation(sample, turns, where)


def image_names(record: Any) -> list[str]:
    """Return the image paths that a sample names, in either form; nothing is checked."""
    if not isinstance(record, Mapping):
        return []
    named = record.get("image", record.get("images", []))
    names = [named] if isinstance(named, str) else list(named) if isinstance(named, list) else []
    messages = record.get("messages")
    for message in messages if isinstance(messages, list) else []:
        content = message.get("content") if isinstance(message, Mapping) else None
        parts = content if isinstance(content, list) else []
        names += [_path(part) for part in parts if isinstance(part, Mapping)]
    return [name for name in names if isinstance(name, str) and name]


def _llava_turns(record: Mapping[str, Any], name: str, root: Path) -> tuple[Turn, ...]:
    paths = record.get("image", record.get("images", []))
    paths = [paths] if isinstance(paths, str) else _list(paths, "image", name)
    texts = [
        (_role(turn, "from", _LLAVA_ROLES, name), _string(turn, "value", name))
        for turn in _list(record["conversations"], "conversations", name)
    ]
    markers = sum(text.count(_LLAVA_MARKER) for _, text in texts)
    if markers != len(paths):
        raise BadSampleError(
            f"{name}: must have one {_LLAVA_MARKER} in its texts for each image, got {markers} "
            f"markers and {len(paths)} images."
        )
    remaining = iter(paths)
    return tuple(Turn(role, _split_markers(text, remaining, root, name)) for role, text in texts)


def _split_markers(
    text: str, paths: Iterable[Any], root: Path, name: str
) -> tuple[str | ImageContent, ...]:
    content: list[str | ImageContent] = []
    remaining = iter(paths)
    for piece in re.split(f"({_LLAVA_MARKER})", text):
        if piece == _LLAVA_MARKER:
            content.append(_image(next(remaining), root, name))
        elif piece:
            content.append(piece)
    return tuple(content)


def _message_turn(message: Any, name: str, root: Path) -> Turn:
    role = _role(message, "role", {r: r for r in ROLES}, name)
    content = message.get("content")
    if isinstance(content, str):
        return Turn(role, (content,) if content else ())
    parts = [_message_part(part, name, root) for part in _list(content, "content", name)]
    return Turn(role, tuple(part for part in parts if part != ""))


def _message_part(part: Any, name: str, root: Path) -> str | ImageContent:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return _string(part, "text", name)
    if kind == "image":
        return _image(_path(part), root, name)
    raise BadSampleError(
        f"{name}: each part of a content list must be an object of type 'text' or 'image', got "
        f"{part if isinstance(part, str) else kind!r}."
    )


def _path(part: Mapping[str, Any]) -> Any:
    return next((part[key] for key in ("path", "image", "url") if key in part), None)


def _image(path: Any, root: Path, name: str) -> ImageContent:
    if not isinstance(path, str) or not path:
        raise BadSampleError(f"{name}: an image must be a path, got {path!r}.")
    return ImageContent(str(root / path))


def _role(turn: Any, key: str, known: Mapping[str, Role], name: str) -> Role:
    if not isinstance(turn, Mapping):
        raise BadSampleError(f"{name}: a turn must be an object, got {type(turn).__name__}.")
    role = turn.get(key)
    if role not in known:
        raise BadSampleError(f"{name}: {key!r} must be one of {', '.join(known)}, got {role!r}.")
    return known[cast(str, role)]


def _string(turn: Mapping[str, Any], key: str, name: str) -> str:
    text = turn.get(key)
    if not isinstance(text, str):
        raise BadSampleError(f"{name}: {key!r} must be a string, got {type(text).__name__}.")
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
