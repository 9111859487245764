"""Questions across two of easy-VQA's pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.data.easy_vqa_facts import Facts, picture_facts
from lit_vlm.data.sources import ConversationSource, image_key

_SAME = 3 / 7
"""Share paired by colour: with chance's eighth of the others, half of the pairs have one colour."""


@dataclass(frozen=True, slots=True)
class _Question:
    one: Facts
    other: Facts
    text: str
    answer: str


class EasyVQAPairs(ConversationSource):
    """Ask about two pictures at once: ``Which image shows a triangle?``, ``image 2``.

    Each picture of which colour and shape are known is in one pair, so that pairs can be held out
    by image; 1,789 pairs in training, 444 in test. Of each pair it is asked whether both images
    show the same color and whether they show the same shape, and, where they do not, which of them
    shows the one of either. One question a dialogue; half of the pairs have one colour, and a
    third one shape.

    Args:
        split: ``train`` or ``test``.
        seed: chooses the pairs, their order and what is asked for.

    Raises:
        ImportError: on ``prepare``, if the package is missing.

    Source:
        easy-VQA (Zhou, 2019), https://github.com/vzhou842/easy-VQA, gives the pictures; stands for
        pairs of pictures such as Otter's (Li et al., 2023), https://arxiv.org/abs/2306.05425.
    """

    def __init__(self, split: Literal["train", "test"], seed: int = 0) -> None:
        super().__init__()
        self.split: Literal["train", "test"] = split
        self.seed = seed
        self._questions: list[_Question] = []

    def prepare(self) -> None:
        """Pair the pictures."""
        random = np.random.default_rng(self.seed)
        known = [fact for fact in picture_facts(self.split) if fact.color and fact.shape]
        shuffled = [known[i] for i in random.permutation(len(known))]
        pairs = _paired(shuffled, round(len(shuffled) * _SAME))
        self._questions = [q for one, other in pairs for q in _questions(one, other, random)]

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self._questions)

    def __getitem__(self, index: int) -> Conversation:
        """Return one question about two pictures, with its answer."""
        asked = self._questions[index]
        images = (ImageContent(asked.one.path), ImageContent(asked.other.path))
        turns = (Turn("user", (*images, asked.text)), Turn("assistant", (asked.answer,)))
        return Conversation(f"{self.split}-pair-{index}", turns, f"easy-VQA {self.split} pairs")

    def image_keys(self, index: int) -> tuple[int, ...]:
        """Return the keys of the two pictures, which are the same in all sources of easy-VQA."""
        asked = self._questions[index]
        return image_key(asked.one.path), image_key(asked.other.path)

    def lengths(self) -> NDArray[np.int64]:
        """Return the length of each question and answer, in characters."""
        return np.array([len(asked.text) + len(asked.answer) for asked in self._questions])


def _paired(facts: list[Facts], same: int) -> list[tuple[Facts, Facts]]:
    """Pair the first ``same`` pictures by colour, and the rest as they come."""
    waiting: dict[str | None, Facts] = {}
    pairs = []
    for fact in facts[:same]:
        if fact.color in waiting:
            pairs.append((waiting.pop(fact.color), fact))
        else:
            waiting[fact.color] = fact
    rest = [*waiting.values(), *facts[same:]]
    return pairs + list(zip(rest[::2], rest[1::2], strict=False))


def _questions(one: Facts, other: Facts, random: np.random.Generator) -> Iterator[_Question]:
    for what, same in (("color", one.color == other.color), ("shape", one.shape == other.shape)):
        text = f"Do image 1 and image 2 show the same {what}?"
        yield _Question(one, other, text, "yes" if same else "no")
        if not same:
            number = int(random.integers(2))
            shown = (one, other)[number]
            thing = f"the color {shown.color}" if what == "color" else f"a {shown.shape}"
            text = f"Which image shows {thing}?"
            yield _Question(one, other, text, f"image {number + 1}")
