"""One dialogue about each of easy-VQA's pictures."""

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from lit_vlm.conversation import BoxContent, Conversation, ImageContent, Turn
from lit_vlm.data.easy_vqa_facts import Facts, picture_facts
from lit_vlm.data.sources import ConversationSource, image_key


class EasyVQADialogues(ConversationSource, ABC):
    """One question and its answer about each picture of which its questions tell something.

    Args:
        split: ``train`` or ``test``.

    Raises:
        ImportError: on ``prepare``, if the package is missing.
    """

    def __init__(self, split: Literal["train", "test"]) -> None:
        super().__init__()
        self.split: Literal["train", "test"] = split
        self.num_left_out = 0
        self._facts: list[Facts] = []

    @abstractmethod
    def question(self, fact: Facts) -> str:
        """Return the question about a picture."""

    @abstractmethod
    def answer(self, fact: Facts) -> str | BoxContent:
        """Return its answer."""

    def prepare(self) -> None:
        """Find out what is known of the pictures."""
        facts = picture_facts(self.split)
        self._facts = [fact for fact in facts if fact.names]
        self.num_left_out = len(facts) - len(self._facts)
        if self.num_left_out:
            rank_zero_info(
                f"{type(self).__name__}: the questions about {self.num_left_out} of {len(facts)} "
                f"pictures tell nothing of them; these are left out."
            )

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._facts)

    def __getitem__(self, index: int) -> Conversation:
        """Return the dialogue about one picture."""
        fact = self._facts[index]
        question = Turn("user", (ImageContent(fact.path), self.question(fact)))
        answer = Turn("assistant", (self.answer(fact),))
        return Conversation(f"{self.split}-{index}", (question, answer), f"easy-VQA {self.split}")

    def image_keys(self, index: int) -> tuple[int, ...]:
        """Return the picture's key, which is the same in all sources of easy-VQA."""
        return (image_key(self._facts[index].path),)

    def lengths(self) -> NDArray[np.int64]:
        """Return the length of each question, in characters; answers are about as long."""
        return np.array([len(self.question(fact)) for fact in self._facts])
