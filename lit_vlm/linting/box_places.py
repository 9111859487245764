"""Checks of a dialogue's boxes against its pictures."""

from collections.abc import Iterator, Mapping

from lit_vlm.box_words import is_inside
from lit_vlm.conversation import BoxContent, Conversation
from lit_vlm.linting.pictures import Picture
from lit_vlm.linting.problems import Finding


def check_boxes(dialogue: Conversation, pictures: Mapping[str, Picture]) -> Iterator[Finding]:
    """Yield the boxes that are not inside the picture that they are in.

    Args:
        dialogue: the sample, whose boxes say which image they are in.
        pictures: what its images are like, by path; those that cannot be read are passed over.
    """
    images = dialogue.images
    for box in (p for turn in dialogue.turns for p in turn.content if isinstance(p, BoxContent)):
        place = box.image or 0
        width, height = pictures.get(str(images[place].source), Picture()).size
        if width and not is_inside(box.box, (width, height)):
            message = f"a box must be inside image {place + 1} of {width} x {height} pixels"
            yield Finding("box_outside", f"{message}, got {list(box.box)}")
