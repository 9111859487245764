"""Dialogues about single images and questions across them, blended into one dialogue."""

from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from lit_vlm.conversation import BadSampleError, Conversation
from lit_vlm.data.rearranged import RearrangedSource
from lit_vlm.data.rounds import Rounds, chain_rounds
from lit_vlm.data.sources import ConversationSource


class BlendedConversations(RearrangedSource):
    """Speak of each image of a pair first, and then of both together.

    For each sample of ``pairs`` there is one dialogue: image by image, 1 to ``most`` dialogues
    about it, the first of which shows it; then the sample's own questions across the images. The
    last image need not have dialogues; the sample itself shows it then. A sample of which another
    image has none is left out, and ``num_left_out`` counts these. Images are the same if their
    ``image_keys`` are: both sources must name the same files.

    ``strangers`` slips another image, with a dialogue about it, in between two images of a sample,
    so that a pair becomes images 1 and 3; numbers in the texts (``image 2``, ``second image``) are
    rewritten. Its authors found that this hurts: the model breaks sentences off and names the
    wrong images. They blame references that were rewritten wrongly; here too, images that are
    named in other ways (``the latter``) are not rewritten.

    Args:
        dialogues: dialogues about one image each; others in it are not used.
        pairs: dialogues about several images; ``on_bad_sample`` is theirs.
        most: dialogues about an image, at most.
        strangers: share of the dialogues that get a stranger's image, from 0 to 1.
        seed: chooses dialogues and strangers, which are the same in every epoch.

    Raises:
        ValueError: if ``most`` is less than 1, or ``strangers`` is no share.
        BadSampleError: on ``prepare``, if no sample has dialogues about its images.

    Source:
        DeepSpeed-VisualChat's blend of LLaVA and Otter (Yao et al., 2023),
        https://arxiv.org/abs/2309.14327.
    """

    def __init__(
        self,
        dialogues: ConversationSource,
        pairs: ConversationSource,
        most: int = 2,
        strangers: float | int = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(pairs.on_bad_sample, pairs.max_skipped)
        if most < 1:
            raise ValueError(f"BlendedConversations: most must be at least 1, got {most}.")
        if not 0 <= strangers <= 1:
            raise ValueError(
                f"BlendedConversations: strangers must be a share from 0 to 1, got {strangers}."
            )
        self.dialogues = dialogues
        self.pairs = pairs
        self.most = most
        self.strangers = strangers
        self.seed = seed
        self.num_left_out = 0
        self._about: dict[int, list[int]] = {}
        self._kept: list[int] = []
        self._strangers: list[int] = []

    @property
    def base(self) -> ConversationSource:
        """The pairs."""
        return self.pairs

    def over(self, base: ConversationSource) -> "BlendedConversations":
        """Return the same of other pairs."""
        return BlendedConversations(self.dialogues, base, self.most, self.strangers, self.seed)

    def prepare(self) -> None:
        """Prepare both sources and find the dialogues about each sample's images."""
        self.dialogues.prepare()
        self.pairs.prepare()
        self.arrange()
        if self.num_left_out:
            rank_zero_info(
                f"BlendedConversations: {self.num_left_out} of {len(self.pairs)} samples have an "
                f"image without dialogues that is not their last, or show fewer than two images; "
                f"these are left out."
            )

    def arrange(self) -> None:
        """Find the dialogues about each sample's images."""
        self._about = {}
        for index in range(len(self.dialogues)):
            keys = self.dialogues.image_keys(index)
            if len(keys) == 1:
                self._about.setdefault(keys[0], []).append(index)
        shown = [self.pairs.image_keys(index) for index in range(len(self.pairs))]
        self._kept = [index for index, keys in enumerate(shown) if self._can_blend(keys)]
        self.num_left_out = len(shown) - len(self._kept)
        if not self._kept:
            raise BadSampleError(
                f"BlendedConversations: dialogues must be about the images of the pairs, got none "
                f"for any of {len(shown)} samples. Both must name the same image files."
            )
        # Strangers come from this part of the pairs, or a held-out image would be trained on.
        known = {key for index in self._kept for key in shown[index]} & set(self._about)
        self._strangers = sorted(known)

    def __len__(self) -> int:
        """Return the number of blended dialogues."""
        return len(self._kept)

    def __getitem__(self, index: int) -> Conversation:
        """Return one blended dialogue."""
        keys, chosen = self._plan(index)
        parts = [
            Rounds(self.dialogues[i], (place,))
            for place, indices in enumerate(chosen)
            for i in indices
        ]
        pair = self._kept[index]
        places = tuple(keys.index(key) for key in self.pairs.image_keys(pair))
        return chain_rounds([*parts, Rounds(self.pairs[pair], places)])

    def image_keys(self, index: int) -> tuple[int, ...]:
        """Return the keys of the images, in their order."""
        return tuple(self._plan(index)[0])

    def lengths(self) -> NDArray[np.int64]:
        """Return the sum of the lengths of all that is blended."""
        one, other = self.dialogues.lengths(), self.pairs.lengths()
        plans = (self._plan(index)[1] for index in range(len(self)))
        sums = [int(one[list(chain.from_iterable(plan))].sum()) for plan in plans]
        return np.array(sums, dtype=np.int64) + other[self._kept]

    def texts(self) -> Iterator[str]:
        """Yield every turn's text."""
        return chain(self.dialogues.texts(), self.pairs.texts())

    def _can_blend(self, keys: tuple[int, ...]) -> bool:
        return len(set(keys)) == len(keys) >= 2 and all(key in self._about for key in keys[:-1])

    def _plan(self, index: int) -> tuple[list[int], list[list[int]]]:
        """Return the images of a blended dialogue, and the dialogues about each of them."""
        random = np.random.default_rng([self.seed, self._kept[index]])
        keys = list(self.pairs.image_keys(self._kept[index]))
        if random.random() < self.strangers:
            place = int(random.integers(1, len(keys)))
            keys[place:place] = self._stranger(keys, random)
        return keys, [self._choose(self._about.get(key, []), random) for key in keys]

    def _stranger(self, keys: list[int], random: np.random.Generator) -> list[int]:
        first = int(random.integers(len(self._strangers)))
        known = len(self._strangers)
        circle = (self._strangers[(first + step) % known] for step in range(known))
        return list(islice((key for key in circle if key not in keys), 1))

    def _choose(self, dialogues: list[int], random: np.random.Generator) -> list[int]:
        if not dialogues:
            return []
        count = int(random.integers(1, min(self.most, len(dialogues)) + 1))
        chosen: list[int] = random.choice(dialogues, count, replace=False).tolist()
        return chosen
