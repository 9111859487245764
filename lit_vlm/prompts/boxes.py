"""Boxes in texts, as Qwen-VL writes them."""

import re

Box = tuple[int | float, int | float, int | float, int | float]
_SCALE = 1000
_NUMBER = r"\s*(\d+)\s*"
_POINT = rf"\s*\({_NUMBER},{_NUMBER}\)\s*"
_CORNERS = re.compile(f"{_POINT},{_POINT}")


def write_box(box: Box, size: tuple[int, int]) -> str:
    """Write a box of pixels as text, in thousandths of the image's sides.

    A phrase goes in front of its box as ``<ref>the dog</ref>``.

    Args:
        box: left, top, right and bottom, in pixels.
        size: width and height of the image.

    Raises:
        ValueError: if the box is not inside the image, or ends before it begins.

    Source:
        Qwen-VL (Bai et al., 2023), https://arxiv.org/abs/2308.12966; there, numbers end at 999.

    Example:
        >>> write_box((16, 32, 64, 48), size=(64, 64))
        '<box>(250,500),(1000,750)</box>'
    """
    width, height = size
    left, top, right, bottom = box
    if not (0 <= left <= right <= width and 0 <= top <= bottom <= height):
        raise ValueError(
            f"write_box: a box must be (left, top, right, bottom) inside the image of {width} x "
            f"{height} pixels, got {box}. Clip it, or give the size that it was drawn on."
        )
    if not width or not height:
        raise ValueError(f"write_box: size must be at least 1 x 1, got {width} x {height}.")
    x1, x2 = (round(x / width * _SCALE) for x in (left, right))
    y1, y2 = (round(y / height * _SCALE) for y in (top, bottom))
    return f"<box>({x1},{y1}),({x2},{y2})</box>"


def read_boxes(text: str, size: tuple[int, int]) -> list[Box]:
    """Return the boxes in a text, in pixels, in order.

    Args:
        text: any text; what is not between ``<box>`` and ``</box>`` is passed over.
        size: width and height of the image.

    Raises:
        ValueError: if what is between the tags is not two points, or a number is above 1000, or a
            box ends before it begins.

    Example:
        >>> read_boxes("<ref>a dog</ref><box>(250,500),(1000,750)</box>", size=(64, 64))
        [(16.0, 32.0, 64.0, 48.0)]
    """
    return [_pixels(inside, size) for inside in re.findall("<box>(.*?)</box>", text, re.DOTALL)]


def _pixels(inside: str, size: tuple[int, int]) -> Box:
    found = _CORNERS.fullmatch(inside)
    if found is None:
        raise ValueError(
            f"read_boxes: a box must read <box>(x1,y1),(x2,y2)</box> in whole numbers, got "
            f"{inside[:60]!r} between its tags."
        )
    x1, y1, x2, y2 = map(int, found.groups())
    if not (x1 <= x2 <= _SCALE and y1 <= y2 <= _SCALE):
        raise ValueError(
            f"read_boxes: a box must have its corners in order, in numbers from 0 to {_SCALE}, got "
            f"{inside!r}."
        )
    width, height = size
    return x1 / _SCALE * width, y1 / _SCALE * height, x2 / _SCALE * width, y2 / _SCALE * height
