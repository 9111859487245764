"""Boxes in texts, as Qwen-VL and Shikra write them."""

import re
from abc import ABC, abstractmethod

from lit_vlm.configurable import Configurable
from lit_vlm.conversation import Box

_SCALE = 1000
_NUMBER = r"\s*(\d+)\s*"
_POINT = rf"\s*\({_NUMBER},{_NUMBER}\)\s*"
_CORNERS = re.compile(f"{_POINT},{_POINT}")
_QUAD = re.compile("<quad>.*?(</quad>|$)", re.DOTALL)
_DECIMAL = r"\s*(\d*\.?\d+)\s*"
_LISTED = re.compile(r"\[([^\[\]]*)\]")
_FOUR = re.compile(",".join([_DECIMAL] * 4))


class BoxFormat(Configurable, ABC):
    """Write boxes into texts and read them there.

    Boxes are (left, top, right, bottom) in shares of the sides of the image that the model sees,
    from 0 to 1; the processor moves them there from the picture's pixels and back. They are written
    in whole units, such as thousandths; what has an extent is written one unit long at least.
    """

    @abstractmethod
    def write(self, box: Box) -> str:
        """Return a box as text.

        Raises:
            ValueError: if it is not inside the image, or ends before it begins.
        """

    @abstractmethod
    def read(self, text: str) -> list[Box]:
        """Return the boxes in a text, in order; what is no box, or none inside, is passed over."""


class QwenBoxes(BoxFormat):
    """Write boxes as Qwen-VL does, in thousandths: ``<box>(125,0),(500,1000)</box>``.

    The tags need not be there to be read, since ``<ref>a dog</ref><box>`` is how Qwen-VL is asked
    for a box; the four points of a ``<quad>`` are no box.

    Source:
        Qwen-VL (Bai et al., 2023), https://arxiv.org/abs/2308.12966; there, numbers end at 999.

    Example:
        >>> QwenBoxes().write((0.125, 0, 0.5, 1))
        '<box>(125,0),(500,1000)</box>'
        >>> QwenBoxes().read("a dog (125,0),(500,1000)</box>, a cat <box>(125,0),(5")
        [(0.125, 0.0, 0.5, 1.0)]
    """

    def write(self, box: Box) -> str:
        """Return a box as text."""
        return write_box(_inside("QwenBoxes", box), size=(1, 1))

    def read(self, text: str) -> list[Box]:
        """Return the boxes in a text, in order."""
        found = _CORNERS.findall(_QUAD.sub("", text))
        boxes = [[float(number) / _SCALE for number in numbers] for numbers in found]
        return [(x1, y1, x2, y2) for x1, y1, x2, y2 in boxes if x1 <= x2 <= 1 and y1 <= y2 <= 1]


class PlainBoxes(BoxFormat):
    """Write boxes as Shikra does, in plain numbers: ``[0.125,0.000,0.500,1.000]``.

    COMM's choice: no new tokens, and numbers that a language model has read before. Several boxes
    in one pair of brackets, parted by semicolons, are read too.

    Args:
        digits: behind the point.

    Raises:
        ValueError: if ``digits`` is less than 1.

    Source:
        Shikra (Chen et al., 2023), https://arxiv.org/abs/2306.15195.

    Example:
        >>> PlainBoxes().write((0.125, 0, 0.5, 1))
        '[0.125,0.000,0.500,1.000]'
        >>> PlainBoxes().read("left [0.1,0.2,0.3,0.4;0.5,0.6,0.7,0.8], not [1,2]")
        [(0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)]
    """

    def __init__(self, digits: int = 3) -> None:
        if digits < 1:
            raise ValueError(f"PlainBoxes: digits must be at least 1, got {digits}.")
        self.digits = digits

    def write(self, box: Box) -> str:
        """Return a box as text."""
        left, top, right, bottom = _inside("PlainBoxes", box)
        x1, x2 = self._numbers(left, right)
        y1, y2 = self._numbers(top, bottom)
        return f"[{x1},{y1},{x2},{y2}]"

    def read(self, text: str) -> list[Box]:
        """Return the boxes in a text, in order."""
        pieces = (piece for inside in _LISTED.findall(text) for piece in inside.split(";"))
        found = [_FOUR.fullmatch(piece) for piece in pieces]
        boxes = [[float(number) for number in match.groups()] for match in found if match]
        return [(x1, y1, x2, y2) for x1, y1, x2, y2 in boxes if x1 <= x2 <= 1 and y1 <= y2 <= 1]

    def _numbers(self, begin: int | float, end: int | float) -> list[str]:
        scale = 10**self.digits
        return [f"{unit / scale:.{self.digits}f}" for unit in _units(begin, end, scale)]


def _inside(who: str, box: Box) -> Box:
    left, top, right, bottom = box
    if not (0 <= left <= right <= 1 and 0 <= top <= bottom <= 1):
        raise ValueError(
            f"{who}: a box must be (left, top, right, bottom) in shares of the sides, from 0 to 1, "
            f"got {box}."
        )
    return box


def _units(begin: int | float, end: int | float, scale: int) -> tuple[int, int]:
    """Return the nearest units of a scale, at least one apart if begin and end are."""
    first, last = round(begin * scale), round(end * scale)
    if first == last and begin < end:
        first = min(first, scale - 1)
        last = first + 1
    return first, last


def write_box(box: Box, size: tuple[int, int]) -> str:
    """Write a box of pixels as text, in thousandths of the image's sides.

    A phrase goes in front of its box as ``<ref>the dog</ref>``. A box that is thinner than a
    thousandth is written as one.

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
    x1, x2 = _units(left / width, right / width, _SCALE)
    y1, y2 = _units(top / height, bottom / height, _SCALE)
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
