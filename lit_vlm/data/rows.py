"""Rows of batches, and the rows of a pass over some samples."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item")


class Slot(NamedTuple):
    """One row of a batch.

    Attributes:
        samples: the samples whose dialogues are joined in it, usually one.
        repeated: whether it only fills a rank's last batch, and must count for nothing.
    """

    samples: tuple[int, ...]
    repeated: bool = False


class ShuffledRows:
    """The rows of a pass over some samples, in random order; each sample is in exactly one.

    Args:
        samples: the samples.
        groups: samples about the same image, if up to ``rounds`` of them are joined; what they
            hold beside ``samples`` is left out.
        rounds: most samples to join in one row.
    """

    def __init__(
        self,
        samples: Sequence[int],
        groups: Sequence[Sequence[int]] | None = None,
        rounds: int = 1,
    ) -> None:
        self.samples = samples
        self.groups: list[list[int]] | None = None
        if groups is not None and rounds > 1:
            wanted = set(samples)
            kept = ([i for i in group if i in wanted] for group in groups)
            self.groups = [group for group in kept if group]
        self.rounds = rounds

    def __len__(self) -> int:
        """Return the number of rows, which is the same in each pass."""
        if self.groups is None:
            return len(self.samples)
        return sum(-(-len(group) // self.rounds) for group in self.groups)

    def __call__(self, random: np.random.Generator) -> list[Slot]:
        """Return the rows in an order, and joined in a way, that ``random`` chooses."""
        if self.groups is None:
            slots = [Slot((i,)) for i in self.samples]
        else:
            slots = [
                Slot(tuple(chunk))
                for group in self.groups
                for chunk in chunks(random.permutation(group).tolist(), self.rounds)
            ]
        return [slots[i] for i in random.permutation(len(slots))]


def chunks(items: list[Item], size: int) -> list[list[Item]]:
    """Cut a list into parts of a size, the last of which may be shorter."""
    return [items[i : i + size] for i in range(0, len(items), size)]
