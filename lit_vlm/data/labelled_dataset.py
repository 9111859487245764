"""Batches of pictures with labels, and of crops."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from lit_vlm.data.augmentation import draw_seed
from lit_vlm.data.image_batches import CropBatch, LabelledBatch
from lit_vlm.data.picture_batches import PicturePlaces
from lit_vlm.data.picture_reading import PictureFormat, PictureReader
from lit_vlm.data.picture_sources import LabelledSource


class LabelledDataset(Dataset[LabelledBatch]):
    """Read the pictures of a batch and their classes.

    Args:
        reader: the pictures.
        form: how they come to the model.
        numbers: for each source, the numbers in training of its classes.
    """

    def __init__(
        self, reader: PictureReader, form: PictureFormat, numbers: Sequence[Sequence[int]]
    ) -> None:
        self.reader = reader
        self.form = form
        self.numbers = numbers

    def __getitem__(self, places: PicturePlaces) -> LabelledBatch:
        """Return a batch."""

        def read(index: int) -> tuple[UInt8[Tensor, "3 H W"], int]:
            picture = self.reader.pictures.picture(index)
            return self.form.pixels(picture, places.epoch, index), self._label(index)

        indices, rows, skipped = self.reader.read(places.indices, read)
        empty = torch.zeros((0, 3, *self.form.size), dtype=torch.uint8)
        return LabelledBatch(
            torch.stack([pixels for pixels, _ in rows]) if rows else empty,
            torch.tensor([label for _, label in rows], dtype=torch.long),
            torch.tensor(indices, dtype=torch.long),
            skipped,
        )

    def _label(self, index: int) -> int:
        which, place = self.reader.pictures.locate(index)
        source: LabelledSource = self.reader.pictures.sources[which]
        label = source.label(place)
        return label if label < 0 else self.numbers[which][label]


class CropDataset(Dataset[CropBatch]):
    """Read the pictures of a batch and cut them into crops.

    Args:
        reader: the pictures.
        crops: the model's ``training_views``.
        size: height and width of the global crops, in pixels.
        seed: chooses the crops, together with epoch and picture.
    """

    def __init__(self, reader: PictureReader, crops: Any, size: tuple[int, int], seed: int) -> None:
        self.reader = reader
        self.crops = crops
        self.size = size
        self.seed = seed

    def __getitem__(self, places: PicturePlaces) -> CropBatch:
        """Return a batch."""

        def read(index: int) -> tuple[Tensor, Tensor]:
            seed = draw_seed(self.seed, places.epoch, index)
            views = self.crops.crops(self.reader.pictures.picture(index), self.size, seed)
            return views[0], views[1]

        indices, rows, skipped = self.reader.read(places.indices, read)
        return CropBatch(
            torch.stack([large for large, _ in rows], dim=1),
            torch.stack([small for _, small in rows], dim=1),
            torch.tensor(indices, dtype=torch.long),
            skipped,
        )
