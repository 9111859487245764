"""Sources that make dialogues out of another source's, and parts of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lit_vlm.conversation import Conversation
from lit_vlm.data.sources import ConversationSource, Subset


class RearrangedSource(ConversationSource, ABC):
    """Make dialogues out of those of another source.

    Dialogues made of others' join images that had nothing to do with each other; held out by
    image, all of them would hang together. So ``base`` is split, and each part is rearranged.
    """

    @property
    @abstractmethod
    def base(self) -> ConversationSource:
        """The source that is split when a share is held out."""

    @abstractmethod
    def over(self, base: ConversationSource) -> "RearrangedSource":
        """Return a source that rearranges another one in the same way, yet to be arranged."""

    @abstractmethod
    def arrange(self) -> None:
        """Do what ``prepare`` does once the sources inside are prepared."""


class RearrangedPart(Subset):
    """A part of a rearranged source: the same of a part of its ``base``.

    Args:
        source: the source, prepared.
        base: the part of its ``base``.
    """

    def __init__(self, source: RearrangedSource, base: Subset) -> None:
        self.part = source.over(base)
        self.part.arrange()
        super().__init__(source, list(range(len(self.part))))

    def __getitem__(self, index: int) -> Conversation:
        """Read one dialogue."""
        return self.part[index]

    def image_keys(self, index: int) -> tuple[int, ...]:
        """Return a key per image of a dialogue."""
        return self.part.image_keys(index)

    def lengths(self) -> NDArray[np.int64]:
        """Return a measure of each dialogue's text length."""
        return self.part.lengths()

    def texts(self) -> Iterator[str]:
        """Yield every turn's text."""
        return self.part.texts()
