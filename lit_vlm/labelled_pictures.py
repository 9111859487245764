"""Where the pictures with classes come from that an encoder is evaluated on."""

from collections.abc import Sequence
from typing import Any, Literal

from lightning import LightningDataModule, Trainer

from lit_vlm.encoders.base import VisionEncoder

Split = Literal["val", "test"]


class LabelledPictures:
    """A data module of its own, or the trainer's, that has ``labelled_loader(split)``.

    Args:
        data: the one of its own; None for the trainer's.
    """

    def __init__(self, data: LightningDataModule | None) -> None:
        self._own: Any = data
        self._ready: set[str] = set()

    def given(self, trainer: Trainer) -> bool:
        """Whether there is such data."""
        return hasattr(self._data(trainer), "labelled_loader")

    def has(self, trainer: Trainer, split: str) -> bool:
        """Whether there is such data, with pictures for a split, as far as it tells."""
        tells = getattr(self._data(trainer), "has_split", None)
        return self.given(trainer) and (tells is None or bool(tells(split)))

    def check(self, trainer: Trainer, splits: Sequence[str]) -> None:
        """Refuse data that cannot be evaluated on.

        Args:
            trainer: what runs.
            splits: the parts that it must have.

        Raises:
            TypeError: if there is no such data.
            ValueError: if it lacks a part.
        """
        if not self.given(trainer):
            place = "the data" if self._own is None else "feature_evaluation.data"
            raise TypeError(
                f"FeatureEvaluation: {place} must have labelled_loader(split), as "
                f"ImageClassificationDataModule has, got {type(self._data(trainer)).__name__}. "
                f"Give pictures with classes: --feature_evaluation.data "
                f"ImageClassificationDataModule."
            )
        lacking = [split for split in splits if not self.has(trainer, split)]
        if lacking:
            option = "data" if self._own is None else "feature_evaluation.data"
            raise ValueError(
                f"FeatureEvaluation: {option} must have {' and '.join(lacking)}, got none. Give "
                f"{' and '.join(f'--{option}.{split}' for split in lacking)}."
            )

    def of(self, trainer: Trainer, encoder: VisionEncoder, split: Split) -> Any:
        """Return the data module, ready to give training pictures and those of a split.

        Args:
            trainer: what runs; its data module is set up already.
            encoder: what pictures are to fit.
            split: the part that is evaluated.
        """
        if self._own is not None:
            self._prepare(trainer, encoder, split)
        return self._data(trainer)

    def _data(self, trainer: Any) -> Any:
        return trainer.datamodule if self._own is None else self._own

    def _prepare(self, trainer: Trainer, encoder: VisionEncoder, split: Split) -> None:
        self._own.trainer = _TrainerOfEncoder(trainer, encoder)
        if split in self._ready:
            return
        if trainer.local_rank == 0:
            self._own.prepare_data()
        trainer.strategy.barrier()
        self._own.setup("test" if split == "test" else "fit")
        self._ready.add(split)


class _TrainerOfEncoder:
    """A trainer, to data that asks its module for the size of pictures, with the encoder as it."""

    def __init__(self, trainer: Trainer, encoder: VisionEncoder) -> None:
        self._trainer = trainer
        self.lightning_module = encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)
