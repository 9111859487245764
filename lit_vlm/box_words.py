"""Boxes of dialogues to words, moved to where the model sees them."""

from collections.abc import Callable

from lit_vlm.conversation import (
    BadSampleError,
    Box,
    BoxContent,
    Conversation,
    ImageContent,
    Turn,
    place_boxes,
)
from lit_vlm.images import Resize, picture_size
from lit_vlm.prompts.boxes import BoxFormat
from lit_vlm.views import View

_SLACK = 1
"""Pixels that a box may reach out of its picture, as rounded numbers do; it is cut off."""
FAR = 1e9
"""No picture has as many pixels in a row."""


def has_boxes(conversation: Conversation) -> bool:
    """Return whether boxes of a dialogue are still to be written."""
    return any(isinstance(part, BoxContent) for t in conversation.turns for part in t.content)


def write_boxes(
    conversation: Conversation, boxes: BoxFormat, image_size: tuple[int, int], resize: Resize
) -> Conversation:
    """Return a dialogue whose boxes are words, in shares of what the model sees.

    Args:
        conversation: the dialogue; its boxes are in pixels of the stored pictures.
        boxes: writes them.
        image_size: height and width of what the model sees.
        resize: how pictures of another shape are brought to that size.

    Raises:
        BadSampleError: if a picture cannot be read, or a box is in none, is not in its picture, or
            is not seen since the crop leaves nothing of it.
    """
    views: dict[int, View] = {}

    def view(image: int) -> View:
        if image not in views:
            size = _size(conversation.images[image], conversation.name)
            views[image] = View.of(size, image_size, resize)
        return views[image]

    turns = []
    for turn in place_boxes(conversation.turns, conversation.name):
        words = [
            _written(part, view, boxes, conversation.name) if isinstance(part, BoxContent) else part
            for part in turn.content
        ]
        turns.append(Turn(turn.role, tuple(_joined(words))))
    where, answers = conversation.where, conversation.answers
    return Conversation(conversation.id, tuple(turns), where, answers)


def check_box(box: Box, name: str) -> None:
    """Raise ``BadSampleError`` unless a box is four finite numbers in order.

    Args:
        box: left, top, right and bottom.
        name: of the sample, for messages.
    """
    left, top, right, bottom = box
    if not (all(abs(value) < FAR for value in box) and left < right and top < bottom):
        raise BadSampleError(
            f"{name}: a box must be left, top, right and bottom in pixels, left less than right "
            f"and top less than bottom, got {list(box)}. If it is left, top, width and height, add "
            f"the former to the latter."
        )


def is_inside(box: Box, picture: tuple[int, int]) -> bool:
    """Return whether a box is in a picture, but for what rounding moved over the edge.

    Args:
        box: left, top, right and bottom, in pixels.
        picture: width and height.

    Example:
        >>> is_inside((0, 0, 30.9, 20), (30, 20)), is_inside((30, 0, 30.9, 20), (30, 20))
        (True, False)
    """
    left, top, right, bottom = box
    width, height = picture
    near = min(left, top) >= -_SLACK and right <= width + _SLACK and bottom <= height + _SLACK
    return near and max(left, 0) < min(right, width) and max(top, 0) < min(bottom, height)


def _size(image: ImageContent, name: str) -> tuple[int, int]:
    try:
        return picture_size(image.source)
    except ValueError as error:
        raise BadSampleError(f"{name}: {error}.") from error


def _written(
    content: BoxContent, view_of: Callable[[int], View], boxes: BoxFormat, name: str
) -> str:
    box = content.box
    check_box(box, name)
    view = view_of(content.image or 0)
    width, height = view.picture
    if not is_inside(box, view.picture):
        raise BadSampleError(
            f"{name}: a box must be inside its picture, which has {width} x {height} pixels (width "
            f"x height), got {list(box)}. Boxes are in pixels of the stored picture."
        )
    x1, y1, x2, y2 = seen = view.seen(box)
    if not (x1 < x2 and y1 < y2):
        raise BadSampleError(
            f"{name}: the model must see some of a box, but the crop to {view.image[0]} x "
            f"{view.image[1]} leaves nothing of {list(box)} in the picture of {width} x {height} "
            f"pixels. Show whole pictures: resize: pad."
        )
    return boxes.write(seen)


def _joined(parts: list[str | ImageContent]) -> list[str | ImageContent]:
    """Join neighbouring words, as they were before the box parted them."""
    joined: list[str | ImageContent] = []
    for part in parts:
        if joined and isinstance(part, str) and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined
