"""Dialogues about one image each, put together into dialogues about several."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lit_vlm.conversation import Conversation
from lit_vlm.data.rearranged import RearrangedSource
from lit_vlm.data.rounds import Rounds, chain_rounds
from lit_vlm.data.sources import ConversationSource


class ConcatenatedConversations(RearrangedSource):
    """Put groups of dialogues about one image together, as rounds of one dialogue.

    The dialogues are shuffled and cut into groups of 1 to ``most``, each size as likely. Each
    dialogue is there once and shows its own image, and the prompt format numbers the images: with
    ``VisualChat``, round 2 introduces ``### Image 2:``. Teaches a model to keep several images
    apart with no data about several images. Dialogues without an image or with several stay as
    they are. Of a group of which one dialogue cannot be used, none is.

    Args:
        source: the dialogues.
        most: dialogues in the largest groups.
        seed: chooses the groups, which are the same in every epoch.

    Raises:
        ValueError: if ``most`` is less than 1.

    Source:
        DeepSpeed-VisualChat's simple concatenation (Yao et al., 2023),
        https://arxiv.org/abs/2309.14327; with ``most`` 3 for LLaVA's data, and 2 for its dialogues.
    """

    def __init__(self, source: ConversationSource, most: int = 3, seed: int = 0) -> None:
        super().__init__(source.on_bad_sample, source.max_skipped)
        if most < 1:
            raise ValueError(f"ConcatenatedConversations: most must be at least 1, got {most}.")
        self.source = source
        self.most = most
        self.seed = seed
        self._order: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._ends: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def prepare(self) -> None:
        """Prepare the dialogues and group them."""
        self.source.prepare()
        self.arrange()

    def arrange(self) -> None:
        """Group the dialogues."""
        random = np.random.default_rng(self.seed)
        single = [len(self.source.image_keys(i)) == 1 for i in range(len(self.source))]
        shuffled = random.permutation(np.flatnonzero(single))
        # More sizes than are needed; what the last group lacks is not there.
        ends = np.cumsum(random.integers(1, self.most + 1, size=len(shuffled)))
        groups = [*ends[ends < len(shuffled)].tolist(), *([len(shuffled)] if any(single) else [])]
        others = np.flatnonzero(~np.array(single, dtype=bool))
        self._order = np.concatenate([shuffled, others]).astype(np.int64)
        alone = range(len(shuffled) + 1, len(self._order) + 1)
        self._ends = np.array([*groups, *alone], dtype=np.int64)

    @property
    def base(self) -> ConversationSource:
        """The dialogues."""
        return self.source

    def over(self, base: ConversationSource) -> "ConcatenatedConversations":
        """Return the same of other dialogues."""
        return ConcatenatedConversations(base, self.most, self.seed)

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._ends)

    def __getitem__(self, index: int) -> Conversation:
        """Return one group as one dialogue."""
        dialogues = [self.source[i] for i in self._group(index)]
        if len(dialogues) == 1:
            return dialogues[0]
        return chain_rounds([Rounds(d, (place,)) for place, d in enumerate(dialogues)])

    def image_keys(self, index: int) -> tuple[int, ...]:
        """Return the keys of a group's images, in their order."""
        return tuple(key for i in self._group(index) for key in self.source.image_keys(i))

    def lengths(self) -> NDArray[np.int64]:
        """Return the sum of each group's lengths."""
        starts = np.concatenate([[0], self._ends[:-1]]).astype(np.int64)
        return np.add.reduceat(self.source.lengths()[self._order], starts)

    def texts(self) -> Iterator[str]:
        """Yield every turn's text."""
        return self.source.texts()

    def _group(self, index: int) -> list[int]:
        begin = int(self._ends[index - 1]) if index else 0
        group: list[int] = self._order[begin : self._ends[index]].tolist()
        return group
