"""Where the shapes of easy-VQA's pictures are, as dialogues."""

from typing import Literal

import numpy as np

from lit_vlm.conversation import Box, BoxContent
from lit_vlm.data.easy_vqa_dialogues import EasyVQADialogues
from lit_vlm.data.easy_vqa_facts import Facts
from lit_vlm.images import read_image

_PHRASE = "{phrase}"


class EasyVQABoxes(EasyVQADialogues):
    """Ask where each easy-VQA picture's one shape is; the answer is its box.

    3,971 training and 988 test pictures of 64 x 64 pixels. Boxes are 7 to 33 pixels wide and high
    and are found in the pixels: backgrounds have one light colour, and the box holds all pixels of
    which the shape covers more than half.

    Args:
        split: ``train`` or ``test``.
        question: what is asked; ``{phrase}`` in it becomes ``the red circle``. Qwen-VL is asked
            with ``<ref>{phrase}</ref>``.

    Raises:
        ValueError: if ``question`` has no ``{phrase}``.
        ImportError: on ``prepare``, if the package is missing.

    Source:
        easy-VQA (Zhou, 2019), https://github.com/vzhou842/easy-VQA.
    """

    def __init__(
        self, split: Literal["train", "test"], question: str = "Where is {phrase}?"
    ) -> None:
        super().__init__(split)
        if _PHRASE not in question:
            raise ValueError(
                f"EasyVQABoxes: question must hold {_PHRASE}, which stands for 'the red circle', "
                f"got {question!r}."
            )
        self.asked = question

    def question(self, fact: Facts) -> str:
        """Return the question about a picture's shape."""
        return self.asked.replace(_PHRASE, f"the {fact.names[0]}")

    def answer(self, fact: Facts) -> BoxContent:
        """Return the shape's box."""
        return BoxContent(shape_box(fact.path))


def shape_box(path: str) -> Box:
    """Return the box of the only shape in a picture of one background colour, in pixels."""
    pixels = np.asarray(read_image(path)).astype(np.int64)
    colors, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    # Backgrounds are light, of any tint, and take more than half of the picture. The shape's edges
    # are smoothed, so pixels on them are between the two colours.
    difference = np.abs(pixels - colors[counts.argmax()]).max(axis=2)
    inside = difference * 2 > difference.max()
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
