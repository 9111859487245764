"""Batches of rows that are alike."""

import numpy as np
from numpy.typing import NDArray

from lit_vlm.data.rows import Slot, chunks

_MEGA_BATCH = 50
"""Batches that are sorted by length together; more pad less and mix less."""


class BatchGrouping:
    """Change the places of a pass's rows, so that batches hold like rows.

    Grouped by what they show, batches hold rows with images or rows without, and the vision
    encoder rests in the latter. Only the last ones may hold both: what is left of either kind when
    whole batches are cut. Grouped by length, batches pad less.

    Args:
        global_batch_size: rows of a batch over all ranks.
        lengths: a measure of each sample's length, to group by; None for not.
        shows_images: whether each sample has an image, to group by; None for not.

    Source:
        LLaVA (Liu et al., 2023), https://github.com/haotian-liu/LLaVA, ``llava_trainer.py``; which
        sorts the rows of an optimizer step, where here those of 50 batches are sorted together.
    """

    def __init__(
        self,
        global_batch_size: int,
        lengths: NDArray[np.int64] | None = None,
        shows_images: NDArray[np.bool_] | None = None,
    ) -> None:
        self.global_batch_size = global_batch_size
        self.lengths = lengths
        self.shows_images = shows_images

    @classmethod
    def of(
        cls,
        global_batch_size: int,
        lengths: NDArray[np.int64] | None,
        shows_images: NDArray[np.bool_] | None,
    ) -> "BatchGrouping | None":
        """Return a grouping, or None if there is nothing to group by."""
        if lengths is None and shows_images is None:
            return None
        return cls(global_batch_size, lengths, shows_images)

    def __call__(self, slots: list[Slot], random: np.random.Generator) -> list[Slot]:
        """Return the rows in batches of like ones, in an order that ``random`` chooses."""
        whole: list[list[Slot]] = []
        left: list[list[Slot]] = []
        for kind in self._kinds(slots):
            for batch in self._batches(kind):
                # Only whole batches change places, else all behind a short one would be cut anew.
                (whole if len(batch) == self.global_batch_size else left).append(batch)
        order = [whole[i] for i in random.permutation(len(whole))] + left
        return [slot for batch in order for slot in batch]

    def _kinds(self, slots: list[Slot]) -> list[list[Slot]]:
        if self.shows_images is None:
            return [slots]
        shows = [bool(self.shows_images[slot.samples[0]]) for slot in slots]
        pairs = list(zip(slots, shows, strict=True))
        return [[slot for slot, shown in pairs if shown is kind] for kind in (True, False)]

    def _batches(self, slots: list[Slot]) -> list[list[Slot]]:
        if self.lengths is None:
            return chunks(slots, self.global_batch_size)
        lengths = self.lengths
        batches: list[list[Slot]] = []
        for mega in chunks(slots, self.global_batch_size * _MEGA_BATCH):
            mega.sort(key=lambda slot: -sum(int(lengths[i]) for i in slot.samples))
            batches += chunks(mega, self.global_batch_size)
        return batches
