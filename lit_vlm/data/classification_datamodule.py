"""Pictures with classes to batches."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from lit_vlm.data.augmentation import Augmentation
from lit_vlm.data.class_numbers import numbers_among
from lit_vlm.data.labelled_dataset import CropDataset, LabelledDataset
from lit_vlm.data.picture_datamodule import PictureDataModule, Purpose, Split
from lit_vlm.data.picture_reading import PictureReader
from lit_vlm.data.picture_sources import LabelledSource

Labelled = LabelledSource | Sequence[LabelledSource]


class ImageClassificationDataModule(PictureDataModule):
    """Feed pictures and their classes to what pretrains an encoder, or judges one.

    Training batches are ``LabelledBatch``, or ``CropBatch`` where the model wants several crops of
    each picture (``training_views``); all others are ``LabelledBatch``, without augmentation.
    Classes have the numbers that the first training source gives them; the other sources must have
    the same classes, in whatever order.

    Args:
        train: a source, or several that are mixed, in a list or by names, which the stages of
            ``StagedFreezing`` can choose from.
        val: a source or several, or about the share of the training pictures to hold out; the seed
            and a picture's identity (its file) decide, whatever list the picture is in.
        test: a source or several.
        batch_size: pictures of a training batch on one rank.
        eval_batch_size: pictures of any other batch on one rank; None for ``batch_size``.
        num_workers: processes that read and decode beside the training process, per rank.
        seed: chooses order, views, and the held-out share.
        augment: makes views of training pictures; None to resize them.
        drop_last: leave a last, shorter training batch out; its pictures change with the epoch.
        keep_in_memory: keep decoded pictures, in each process that reads them; for small data sets.

    Raises:
        ValueError: if an argument is out of range; on ``setup``, if two sources have different
            classes, or there is one only.
    """

    def __init__(
        self,
        train: Labelled | Mapping[str, LabelledSource] | None = None,
        val: Labelled | float | int | None = None,
        test: Labelled | None = None,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        augment: Augmentation | None = None,
        drop_last: bool = True,
        keep_in_memory: bool = False,
    ) -> None:
        super().__init__(
            train,
            val,
            test,
            batch_size,
            eval_batch_size,
            num_workers,
            seed,
            augment,
            drop_last,
            keep_in_memory,
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of their numbers."""
        split = next(
            (split for split in ("train", "val", "test") if self.has_split(split)), "train"
        )
        return tuple(self.pictures(split).sources[0].classes)

    def prepare_split(self, split: str) -> None:
        """Index the files of a split, and compare its classes with those of training.

        Raises:
            ValueError: if they are others, or there is one class for a model that tells classes
                apart.
        """
        self._class_numbers(split)
        reads_labels = self.model is not None and not hasattr(self.model, "training_views")
        if reads_labels and len(self.classes) < 2:
            raise ValueError(
                f"ImageClassificationDataModule: the data must have at least two classes, got one "
                f"({', '.join(self.classes)}). Add pictures of another, or train by "
                f"SelfDistillation, which needs none."
            )

    def labelled_loader(self, split: Split) -> DataLoader[Any]:
        """Return a split's pictures in order, without augmentation, each once over all ranks."""
        return self.evaluation_loader(split, "share")

    def dataset(self, split: str, purpose: Purpose) -> Dataset[Any]:
        """Return what makes the batches of a split."""
        form = self.picture_format(self.augment if purpose == "train" else None, self.seed)
        reader = PictureReader(self.pictures(split), leaves_out=purpose == "share")
        crops = getattr(self.model, "training_views", None) if purpose == "train" else None
        if crops is not None:
            self._check_no_augmentation()
            return CropDataset(reader, crops, form.size, self.seed)
        return LabelledDataset(reader, form, self._class_numbers(split))

    def _check_no_augmentation(self) -> None:
        if self.augment is not None:
            raise ValueError(
                f"ImageClassificationDataModule: augment must be null where the model cuts its own "
                f"crops, got {type(self.augment).__name__} for {self.model_name}. Leave it out, "
                f"and change the model's training_views."
            )

    def _class_numbers(self, split: str) -> list[list[int]]:
        first = "train" if self.has_split("train") else split
        return [
            numbers_among(source.classes, self.classes, f"{split} and {first}")
            for source in self.pictures(split).sources
        ]
