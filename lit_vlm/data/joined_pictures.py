"""Several sources of pictures as one list, or a part of it."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lit_vlm.data.picture_sources import PictureSource

Source = TypeVar("Source", bound=PictureSource)


class JoinedPictures(Generic[Source]):
    """Number the pictures of several sources through.

    Args:
        sources: prepared sources, one after another.
        kept: which of their pictures to keep, in this order; None for all.
        in_memory: keep pictures that were read, decoded, for the next time.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        kept: NDArray[np.int64] | None = None,
        in_memory: bool = False,
    ) -> None:
        self.sources = list(sources)
        self.kept = kept
        self._ends = np.cumsum([len(source) for source in self.sources])
        self._memory: dict[int, Image.Image] | None = {} if in_memory else None

    def __len__(self) -> int:
        """Return the number of pictures."""
        return int(self._ends[-1]) if self.kept is None else len(self.kept)

    def locate(self, index: int) -> tuple[int, int]:
        """Return the number of a picture's source, and the picture's place in that."""
        place = index if self.kept is None else int(self.kept[index])
        which = int(np.searchsorted(self._ends, place, side="right"))
        return which, place - (int(self._ends[which - 1]) if which else 0)

    def source_of(self, index: int) -> tuple[Source, int]:
        """Return a picture's source, and the picture's place in that."""
        which, place = self.locate(index)
        return self.sources[which], place

    def picture(self, index: int) -> Image.Image:
        """Read a picture as RGB; raise ``BadSampleError`` if it cannot be used."""
        if self._memory is not None and index in self._memory:
            return self._memory[index]
        source, place = self.source_of(index)
        picture = source.picture(place)
        if self._memory is not None:
            self._memory[index] = picture
        return picture

    def of_sources(self, numbers: Sequence[int]) -> list[int]:
        """Return the pictures that come from some of the sources, which are named by number."""
        places = np.arange(len(self)) if self.kept is None else self.kept
        wanted = np.isin(np.searchsorted(self._ends, places, side="right"), list(numbers))
        return np.flatnonzero(wanted).tolist()

    def split(self, share: float, seed: int) -> "tuple[JoinedPictures[Source], ...]":
        """Return a part without about a share of the pictures, and that share, each in order.

        Seed and identity of a picture alone decide, so that one which is listed twice is on one
        side, and another list of the same pictures has the same ones held out. The share is
        therefore not exact; at least one picture is on each side.

        Raises:
            ValueError: if there is one picture only.
        """
        drawn = np.array([self._drawn(index, seed) for index in range(len(self))])
        held = drawn < share
        if not held.any():
            held = drawn == drawn.min()
        elif held.all():
            held = drawn != drawn.max()
        if held.all() or not held.any():
            raise ValueError(
                f"JoinedPictures: there must be at least two different pictures to hold a share "
                f"out, got {len(self)} times {self._name(0)}. Give val a source of its own."
            )
        places = np.arange(len(self)) if self.kept is None else self.kept
        in_memory = self._memory is not None
        parts = (places[~held], places[held])
        return tuple(JoinedPictures(self.sources, kept, in_memory) for kept in parts)

    def _drawn(self, index: int, seed: int) -> float:
        """Return a number from 0 to 1 that is a picture's own, in every process and list."""
        source, place = self.source_of(index)
        text = f"{seed} {source.identity(place)}".encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(text, digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    def _name(self, index: int) -> str:
        source, place = self.source_of(index)
        return source.name(place)


def listed(sources: Any) -> list[Any]:
    """Return what a split was given, a source, several, or several by name, as a list."""
    if sources is None:
        return []
    if isinstance(sources, Mapping):
        return list(sources.values())
    return list(sources) if isinstance(sources, Sequence) else [sources]
