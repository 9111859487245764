"""Many texts in little memory, which worker processes share."""

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np


class PackedTexts(Sequence[str]):
    """Hold texts in one piece of memory.

    A list of strings would be copied into each worker process as it is read, since reading a
    string writes its count of references.

    Args:
        texts: the texts.

    Example:
        >>> PackedTexts(["a", "bär"])[-1]
        'bär'
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        held = bytearray()
        ends = [0]
        for text in texts:
            held += text.encode("utf-8", "surrogateescape")
            ends.append(len(held))
        self._held = bytes(held)
        self._ends = np.array(ends, dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return a text, or several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        text = self._held[self._ends[place] : self._ends[place + 1]]
        return text.decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        """Yield the texts in order."""
        return (self[i] for i in range(len(self)))
