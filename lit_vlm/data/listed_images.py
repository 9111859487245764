"""The images that a stored sample lists, handed out to the places that show them."""

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from lit_vlm.conversation import BadSampleError, ImageContent

IMAGE_MARKER = "<image>"


class ListedImages:
    """The images under ``image`` or ``images``, in the order of their markers in the texts."""

    def __init__(self, record: Mapping[str, Any], root: Path, name: str) -> None:
        named = images_named(record)
        self.paths = [named] if isinstance(named, str) else checked_list(named, "image", name)
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

    def check_all_shown(self) -> None:
        """Raise if there are more or fewer places than images."""
        if self.shown != len(self.paths):
            raise BadSampleError(
                f"{self.name}: must have one {IMAGE_MARKER} in its texts for each image, got "
                f"{self.shown} markers and {len(self.paths)} images."
            )


def image_names(record: Any) -> list[str]:
    """Return the image paths that a sample names, in reading order; nothing is checked.

    What no place shows comes last.

    Args:
        record: the decoded JSON value, in either form.

    Example:
        >>> content = [{"type": "image", "path": "a.png"}, {"type": "image"}]
        >>> image_names({"messages": [{"content": content}], "images": ["b.png"]})
        ['a.png', 'b.png']
    """
    if not isinstance(record, Mapping):
        return []
    named = images_named(record)
    listed = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    waiting = iter(listed)
    parts = _parts(record.get("messages")) if "conversations" not in record else ()
    shown = [name for part in parts for name in _names_of(part, waiting, bool(listed))]
    return [name for name in chain(shown, waiting) if isinstance(name, str) and name]


def _parts(messages: Any) -> Iterator[Any]:
    for message in messages if isinstance(messages, list) else []:
        content = message.get("content") if isinstance(message, Mapping) else None
        yield from content if isinstance(content, list) else [{"type": "text", "text": content}]


def _names_of(part: Any, waiting: Iterator[Any], marked: bool) -> list[Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "image" and (path := image_path(part)) is not None:
        return [path]
    text = IMAGE_MARKER if kind == "image" else part.get("text") if kind == "text" else None
    count = text.count(IMAGE_MARKER) if marked and isinstance(text, str) else 0
    return list(islice(waiting, count))


def images_named(record: Mapping[str, Any]) -> Any:
    """Return what stands under ``image`` or ``images``."""
    named = (record.get(key) for key in ("image", "images"))
    return next((images for images in named if images is not None), [])


def image_path(part: Mapping[str, Any]) -> Any:
    """Return the path of an image part of a message; None if it has none."""
    return next((part[key] for key in ("path", "image", "url") if key in part), None)


def checked_list(value: Any, key: str, name: str) -> list[Any]:
    """Return a list of a sample, or say that it is none."""
    if not isinstance(value, list):
        shown = f"the string {value!r}" if isinstance(value, str) else type(value).__name__
        raise BadSampleError(f"{name}: {key!r} must be a list, got {shown}.")
    return value
