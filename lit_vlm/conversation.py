"""What a training sample is: a dialogue with images in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL.Image import Image

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
Box = tuple[int | float, int | float, int | float, int | float]
"""Left, top, right and bottom."""


class BadSampleError(ValueError):
    """A sample that cannot be used; the message names the file, the place and the sample."""


@dataclass(frozen=True, slots=True)
class ImageContent:
    """An image inside a turn: a path, or a picture already in memory."""

    source: str | Path | Image


@dataclass(frozen=True, slots=True)
class BoxContent:
    """A box inside a turn, which the model's processor writes as text.

    Attributes:
        box: left, top, right and bottom, in pixels of the picture as it is stored.
        image: which of the dialogue's images it is in, from 0; None for the last one before it.
    """

    box: Box
    image: int | None = None

    def __str__(self) -> str:
        """Return the box as Qwen-VL writes one, but in pixels."""
        left, top, right, bottom = (f"{value:g}" for value in self.box)
        return f"<box>({left},{top}),({right},{bottom})</box>"


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker's words, images and boxes, in order."""

    role: Role
    content: tuple[str | ImageContent | BoxContent, ...]

    @property
    def text(self) -> str:
        """The words alone; a box that no processor has written yet is in pixels among them."""
        return "".join(str(p) for p in self.content if not isinstance(p, ImageContent))


@dataclass(frozen=True, slots=True)
class Conversation:
    """A dialogue: an optional system turn, then user and assistant in turn.

    Attributes:
        id: names the sample in messages, ledgers and predictions.
        turns: the turns, in order.
        where: the file and place it was read from, for messages.
        answers: what people answered to the last question, where several did; scores compare
            with these, training learns the last turn.
    """

    id: str
    turns: tuple[Turn, ...]
    where: str = field(default="", compare=False)
    answers: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[ImageContent, ...]:
        """All images, in reading order."""
        return tuple(p for t in self.turns for p in t.content if isinstance(p, ImageContent))

    @property
    def name(self) -> str:
        """The sample's place and id, as messages begin."""
        return f"{self.where} (sample {self.id!r})" if self.where else f"sample {self.id!r}"

    def until_answer(self) -> tuple["Conversation", str]:
        """Split the last assistant turn off: the dialogue before it, and its text."""
        if self.turns and self.turns[-1].role == "assistant":
            before = Conversation(self.id, self.turns[:-1], self.where, self.answers)
            return before, self.turns[-1].text
        return self, ""


def place_boxes(turns: Sequence[Turn], name: str) -> tuple[Turn, ...]:
    """Return turns whose boxes all say which image they are in.

    Args:
        turns: a dialogue, from its beginning.
        name: of the sample, for messages.

    Raises:
        BadSampleError: if a box is in an image that the dialogue does not show.
    """
    total = sum(isinstance(part, ImageContent) for turn in turns for part in turn.content)
    shown = 0
    placed = []
    for turn in turns:
        parts: list[str | ImageContent | BoxContent] = []
        for part in turn.content:
            shown += isinstance(part, ImageContent)
            if isinstance(part, BoxContent):
                image = shown - 1 if part.image is None else part.image
                _check_image(image, total, part, name)
                part = BoxContent(part.box, image)
            parts.append(part)
        placed.append(Turn(turn.role, tuple(parts)))
    return tuple(placed)


def _check_image(image: int, total: int, box: BoxContent, name: str) -> None:
    if image == -1 and box.image is None:
        raise BadSampleError(
            f"{name}: a box must be in an image that stands before it, got the box "
            f"{list(box.box)} before any. Move it, or name its image in 'box_images'."
        )
    if not 0 <= image < total:
        raise BadSampleError(
            f"{name}: a box must be in one of the sample's {total} images, counted from 0, got "
            f"image {image} for the box {list(box.box)}."
        )
