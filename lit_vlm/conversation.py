"""What a training sample is: a dialogue with images in it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL.Image import Image

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


class BadSampleError(ValueError):
    """A sample that cannot be used; the message names the file, the place and the sample."""


@dataclass(frozen=True, slots=True)
class ImageContent:
    """An image inside a turn: a path, or a picture already in memory."""

    source: str | Path | Image


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker's words and images, in order."""

    role: Role
    content: tuple[str | ImageContent, ...]

    @property
    def text(self) -> str:
        """The words alone."""
        return "".join(part for part in self.content if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Conversation:
    """A dialogue: an optional system turn, then user and assistant in turn.

    Attributes:
        id: names the sample in messages, ledgers and predictions.
        turns: the turns, in order.
        where: the file and place it was read from, for messages.
    """

    id: str
    turns: tuple[Turn, ...]
    where: str = field(default="", compare=False)

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
            return Conversation(self.id, self.turns[:-1], self.where), self.turns[-1].text
        return self, ""
