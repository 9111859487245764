"""Batches of pictures with captions."""

from torch.utils.data import Dataset

from lit_vlm.data.image_batches import PairBatch
from lit_vlm.data.pair_batches import PairCollator, PairRow
from lit_vlm.data.picture_batches import PicturePlaces
from lit_vlm.data.picture_reading import PictureReader


class PairDataset(Dataset[PairBatch]):
    """Read the pictures of a batch and their captions.

    Args:
        reader: the pictures.
        collator: chooses captions and stacks.
    """

    def __init__(self, reader: PictureReader, collator: PairCollator) -> None:
        self.reader = reader
        self.collator = collator

    def __getitem__(self, places: PicturePlaces) -> PairBatch:
        """Return a batch."""
        pictures = self.reader.pictures

        def row(index: int) -> PairRow:
            source, place = pictures.source_of(index)
            captions = source.captions(place)
            return self.collator.row(index, places.epoch, lambda: pictures.picture(index), captions)

        _, rows, skipped = self.reader.read(places.indices, row)
        return self.collator.batch(rows, skipped)
