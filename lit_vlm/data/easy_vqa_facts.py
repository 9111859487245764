"""What the questions about an easy-VQA picture and their answers tell of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lit_vlm.data.easy_vqa import EasyVQA

SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a picture.

    Attributes:
        path: its file.
        color: one of ``COLORS``; None if no question tells it.
        shape: one of ``SHAPES``; None if no question tells it.
    """

    path: str
    color: str | None
    shape: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """What the shape may be called: ``blue circle``, ``blue shape``, ``circle``; or less."""
        full = (f"{self.color} {self.shape}",) if self.color and self.shape else ()
        named = (f"{self.color} shape",) if self.color else ()
        return full + named + ((self.shape,) if self.shape else ())


def picture_facts(split: Literal["train", "test"]) -> list[Facts]:
    """Return what the questions tell of each picture of easy-VQA, in the order of the files.

    Raises:
        ImportError: if the package is missing.
    """
    source = EasyVQA(split)
    source.prepare()
    asked: dict[str, list[tuple[str, str]]] = {}
    for dialogue in (source[i] for i in range(len(source))):
        question, answer = dialogue.turns
        (image,) = dialogue.images
        asked.setdefault(str(image.source), []).append((question.text, answer.text))
    return [
        Facts(path, _deduce(pairs, COLORS), _deduce(pairs, SHAPES)) for path, pairs in asked.items()
    ]


def picture_identity(split: str, path: str) -> str:
    """Return what tells a picture from others, wherever the package is installed."""
    return f"easy-VQA {split} {Path(path).name}"


def _deduce(pairs: Sequence[tuple[str, str]], values: Sequence[str]) -> str | None:
    told = [fact for question, answer in pairs for fact in _told(question, answer, values)]
    present = {value for value, is_there in told if is_there}
    possible = present or set(values) - {value for value, is_there in told if not is_there}
    return possible.pop() if len(possible) == 1 else None


def _told(question: str, answer: str, values: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield values of which a question and its answer say that they are, or are not, there."""
    words = question.rstrip("?").split()
    if words[0] == "what":  # whatever such a question speaks of is there
        yield from ((value, True) for value in values if value in (answer, *words))
        return
    negated = "not" in words or "no" in words
    yield from ((value, (answer == "yes") != negated) for value in values if value in words)
