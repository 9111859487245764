"""Dialogues put together into one that goes on from image to image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lit_vlm.conversation import (
    BadSampleError,
    BoxContent,
    Conversation,
    ImageContent,
    Turn,
    place_boxes,
)
from lit_vlm.data.image_numbers import renumber_images

_Part = str | ImageContent | BoxContent


@dataclass(frozen=True, slots=True)
class Rounds:
    """A dialogue that becomes part of a longer one.

    Attributes:
        dialogue: the dialogue.
        places: where each of its images is among the longer dialogue's, from 0.
    """

    dialogue: Conversation
    places: tuple[int, ...]


def chain_rounds(parts: Sequence[Rounds]) -> Conversation:
    """Return one dialogue of all rounds, in which each image is shown once.

    An image is shown where it is first spoken of; where it stood among the words, ``image 2`` takes
    its place from then on, and where it stood alone. Boxes and numbers in the texts follow their
    images. A system turn stays if it is the very first; answers by several people are those to the
    last question. A last question without an answer is dropped if others follow.

    Raises:
        BadSampleError: if a dialogue has not as many images as it was said to have, or has no
            answer though others follow, or shows an image behind its last one.
    """
    shown: set[int] = set()
    turns: list[Turn] = []
    for part in parts:
        _check(part)
        images = iter(part.places)
        spoken = place_boxes(part.dialogue.turns, part.dialogue.name)
        for turn in spoken if part is parts[-1] else _answered(spoken, part.dialogue.name):
            if turn.role != "system" or not turns:
                turns.append(_moved(turn, part.places, images, shown))
    dialogues = [part.dialogue for part in parts]
    name = "+".join(dialogue.id for dialogue in dialogues)
    return Conversation(name, tuple(turns), dialogues[0].where, dialogues[-1].answers)


def _check(part: Rounds) -> None:
    dialogue = part.dialogue
    if len(dialogue.images) != len(part.places):
        raise BadSampleError(
            f"{dialogue.name}: must show {len(part.places)} images, as many as its source has keys "
            f"for, got {len(dialogue.images)}."
        )


def _answered(turns: tuple[Turn, ...], name: str) -> tuple[Turn, ...]:
    *before, last = turns
    if last.role == "assistant":
        return turns
    shows = any(isinstance(part, ImageContent) for part in last.content)
    if shows or not any(turn.role == "assistant" for turn in before):
        raise BadSampleError(
            f"{name}: a dialogue that goes on must end with an answer, got the {last.role}'s turn "
            f"at its end."
        )
    return tuple(before)


def _moved(turn: Turn, places: Sequence[int], images: Iterator[int], shown: set[int]) -> Turn:
    inline = _are_inline(turn)
    content: list[_Part] = []
    dropped: list[str] = []
    for part in turn.content:
        if isinstance(part, ImageContent):
            place = next(images)
            if place not in shown:
                content.append(part)
            else:
                (content if inline else dropped).append(f"image {place + 1}")
            shown.add(place)
        elif isinstance(part, BoxContent):
            content.append(BoxContent(part.box, places[part.image or 0]))
        else:
            content.append(renumber_images(part, [place + 1 for place in places]))
    if dropped:
        silent = all(isinstance(part, str) and not part.strip() for part in content)
        content = [", ".join(dropped)] if silent else _stripped(content)
    return Turn(turn.role, tuple(content))


def _are_inline(turn: Turn) -> bool:
    """Return whether images stand among the words, not all of them before or behind these."""
    kinds = [
        isinstance(part, ImageContent)
        for part in turn.content
        if not isinstance(part, str) or part.strip()
    ]
    return kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True)


def _stripped(content: list[_Part]) -> list[_Part]:
    # A line break kept an image apart from the words; it goes with the image.
    for end, strip in ((0, str.lstrip), (-1, str.rstrip)):
        if content and isinstance(part := content[end], str):
            content[end] = strip(part)
    return [part for part in content if part != ""]
