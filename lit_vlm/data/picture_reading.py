"""Reading a batch's pictures, and what is done about those that cannot be read."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.augmentation import Augmentation, draw_seed
from lit_vlm.data.image_batches import SkippedPicture
from lit_vlm.data.joined_pictures import JoinedPictures
from lit_vlm.images import Resize, fit_image

Read = TypeVar("Read")


@dataclass(frozen=True)
class PictureFormat:
    """How pictures come to the model.

    Attributes:
        size: height and width, in pixels.
        resize: how a picture of another shape is brought there where it is not augmented.
        fill: colour of padding.
        augment: makes views of training pictures; None to resize them.
        seed: chooses the views, together with epoch and picture.
    """

    size: tuple[int, int]
    resize: Resize
    fill: tuple[int, int, int]
    augment: Augmentation | None = None
    seed: int = 0

    def pixels(self, picture: Image.Image, epoch: int, index: int) -> UInt8[Tensor, "3 H W"]:
        """Return a picture's pixels: a view that depends on the epoch, or the whole of it."""
        if self.augment is None:
            return fit_image(picture, self.size, self.resize, self.fill)
        return self.augment.view(picture, self.size, draw_seed(self.seed, epoch, index))


class PictureReader:
    """Read pictures by their places; another stands in for one that cannot be read.

    What stands in is the next good one of the data set, under its own place; where each counts
    once by its place, this leaves the bad one out.

    Args:
        pictures: the pictures.
        leaves_out: put nothing in the place of bad ones.
        known_bad: places of pictures that are passed over without being tried.
    """

    def __init__(
        self,
        pictures: JoinedPictures[Any],
        leaves_out: bool = False,
        known_bad: Collection[int] = (),
    ) -> None:
        self.pictures = pictures
        self.leaves_out = leaves_out
        self.known_bad = frozenset(known_bad)

    def read(
        self, indices: Sequence[int], read_one: Callable[[int], Read]
    ) -> tuple[list[int], list[Read], tuple[SkippedPicture, ...]]:
        """Read some pictures.

        Args:
            indices: their places.
            read_one: reads what is at a place; raises ``BadSampleError`` if it cannot be used.

        Returns:
            The places that were read, what was read there, and what was not.

        Raises:
            BadSampleError: if a picture cannot be used and its source does not say ``skip``.
        """
        places: list[int] = []
        found: list[Read] = []
        skipped: list[SkippedPicture] = []
        for wanted in indices:
            for index in self._candidates(wanted):
                try:
                    found.append(read_one(index))
                except BadSampleError as error:
                    skipped.append(self._skip(index, error))
                else:
                    places.append(index)
                    break
            else:
                self._check_some_are_good(skipped)
        return places, found, tuple(skipped)

    def _candidates(self, wanted: int) -> Iterator[int]:
        tried = 1 if self.leaves_out else len(self.pictures)
        places = ((wanted + i) % len(self.pictures) for i in range(tried))
        return (place for place in places if place not in self.known_bad)

    def _skip(self, index: int, error: BadSampleError) -> SkippedPicture:
        source, _ = self.pictures.source_of(index)
        if source.on_bad_image == "error":
            raise error
        return SkippedPicture(index, self.pictures.locate(index)[0], str(error))

    def _check_some_are_good(self, skipped: Sequence[SkippedPicture]) -> None:
        if not self.leaves_out:
            last = f"; the last: {skipped[-1].reason}" if skipped else ""
            raise BadSampleError(f"none of {len(self.pictures)} pictures can be read{last}")
