"""Pictures with captions to batches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from torch.utils.data import Dataset

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.augmentation import Augmentation
from lit_vlm.data.pair_batches import PairCollator, StreamCollator, Tokenize
from lit_vlm.data.pair_dataset import PairDataset
from lit_vlm.data.pair_stream import PairStream
from lit_vlm.data.picture_datamodule import PictureDataModule, Purpose
from lit_vlm.data.picture_loader import StreamLoader
from lit_vlm.data.picture_reading import PictureReader
from lit_vlm.data.picture_sources import PairSource
from lit_vlm.data.stage_batches import StagedPass
from lit_vlm.stages import Stage

Pairs = PairSource | PairStream | Sequence[PairSource | PairStream]


class ImageTextDataModule(PictureDataModule):
    """Feed pictures and their captions to what pretrains an encoder.

    All batches are ``PairBatch``: with one caption of each picture in training, else with all. The
    model turns captions into tokens (``tokenize``; the attribute of this name is for use without a
    trainer), and may do without pictures in training (``wants_images``).

    Args:
        train: a source, or several that are mixed, in a list or by names, which the stages of
            ``StagedFreezing`` can choose from; or a stream.
        val: a source or several, a stream, or about the share of the training pictures to hold out;
            the seed and a picture's identity (its file) decide, whatever list the picture is in.
        test: a source or several, or a stream.
        batch_size: pictures of a training batch on one rank.
        eval_batch_size: pictures of any other batch on one rank; None for ``batch_size``.
        num_workers: processes that read and decode beside the training process, per rank.
        seed: chooses order, views, captions, and the held-out share.
        augment: makes views of training pictures; None to resize them.
        captions_in_training: which of a picture's captions an epoch shows: ``one at random``, or
            the ``first``.
        drop_last: leave a last, shorter training batch out; its pictures change with the epoch.
        keep_in_memory: keep decoded pictures, in each process that reads them; for small data sets.

    Raises:
        ValueError: if an argument is out of range, or a stream is given with what it cannot do.

    Attributes:
        tokenize: turns captions into token ids and a mask; None to ask the trainer's model.
    """

    def __init__(
        self,
        train: Pairs | Mapping[str, PairSource] | None = None,
        val: Pairs | float | int | None = None,
        test: Pairs | None = None,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        augment: Augmentation | None = None,
        captions_in_training: Literal["one at random", "first"] = "one at random",
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
        if captions_in_training not in ("one at random", "first"):
            raise ValueError(
                f"ImageTextDataModule: captions_in_training must be 'one at random' or 'first', "
                f"got {captions_in_training!r}."
            )
        self.captions_in_training: Literal["one at random", "first"] = captions_in_training
        self.tokenize: Tokenize | None = None
        self._left_out: frozenset[int] = frozenset()
        streams = {split: self._stream(split) for split in self.sources}
        self._streams = {split: s for split, s in streams.items() if s is not None}
        self._ready: set[int] = set()

    def prepare_split(self, split: str) -> None:
        """Index the files of a split, unless that is done."""
        if split not in self._streams:
            self.pictures(split)
            return
        stream = self._streams[split]
        if id(stream) not in self._ready:
            stream.prepare()
            self._ready.add(id(stream))

    def training_texts(self) -> Iterator[str]:
        """Yield the captions of the training pictures, for a tokenizer to be trained on.

        Raises:
            BadSampleError: if captions cannot be used and their source does not say ``skip``.
        """
        self.prepare_split("train")
        if "train" in self._streams:
            yield from self._streams["train"].texts()
            return
        pictures = self.pictures("train")
        for index in range(len(pictures)):
            source, place = pictures.source_of(index)
            try:
                captions = source.captions(place)
            except BadSampleError:
                if source.on_bad_image == "error":
                    raise
                continue
            yield from captions

    def pictures_loader(self) -> Iterable[Any]:
        """Return the training pictures in order, without augmentation, with all captions.

        Each is there once over all ranks, but for those of a stream that are repeated at its end;
        one that cannot be read is left out.
        """
        return self.evaluation_loader("train", "share")

    def pass_over(self, indices: Iterable[int]) -> None:
        """Do in training without pictures that ``pictures_loader`` left out, on whatever rank.

        It is needed only where training does not read pictures itself.
        """
        self._left_out = frozenset(indices)

    def training_loader(self, staged: StagedPass | None) -> Any:
        """Return training batches; see ``PictureDataModule``."""
        if "train" not in self._streams:
            return super().training_loader(staged)
        batch_size = self.batch_size_of(None if staged is None else staged.stage)
        place = self.place_of(staged)
        length = place.get("epoch_length") or len(self._stream_batches("train", batch_size))
        epoch, begin = divmod(place.get("position", 0), length)
        batches = self._stream_batches("train", batch_size, epoch=epoch, position=begin)
        return StreamLoader(batches, self.recorder("train"), begin, place.get("end"))

    def evaluation_loader(self, split: str, purpose: Purpose) -> Any:
        """Return batches in order, without augmentation."""
        if split not in self._streams:
            return super().evaluation_loader(split, purpose)
        batches = self._stream_batches(split, self.eval_batch_size, purpose)
        return StreamLoader(batches, self.recorder(split))

    def batches_per_pass(self, stage: Stage) -> int:
        """Return how many batches a pass over a stage's data has, on this rank."""
        if "train" not in self._streams:
            return super().batches_per_pass(stage)
        self.check_reading(stage)
        if stage.data or stage.temperature is not None:
            raise ValueError(
                f"ImageTextDataModule: the data of a stage must be names of train, got "
                f"{stage.data or f'temperature {stage.temperature}'} for a stream, which has none. "
                f"Leave it out."
            )
        return len(self._stream_batches("train", self.batch_size_of(stage)))

    def dataset(self, split: str, purpose: Purpose) -> Dataset[Any]:
        """Return what makes the batches of a split."""
        collator = self._collator(purpose)
        reader = PictureReader(self.pictures(split), purpose == "share", self._known_bad(collator))
        return PairDataset(reader, collator)

    def _stream_batches(
        self, split: str, batch_size: int, purpose: Purpose = "train", **position: int
    ) -> Any:
        self.prepare_split(split)
        stream = self._streams[split]
        (world_size, rank), training = self.ranks, purpose == "train"
        skips, collator = stream.on_bad_image == "skip", self._collator(purpose)
        return stream.loader(
            StreamCollator(collator, skips, purpose == "share", self._known_bad(collator)),
            batch_size,
            self.num_workers,
            rank,
            world_size,
            training=training,
            drop_last=training and self.drop_last,
            seed=self.seed,
            **position,
        )

    def _collator(self, purpose: Purpose) -> PairCollator:
        tokenize = self.tokenize or getattr(self.model, "tokenize", None)
        if tokenize is None:
            raise ValueError(
                f"ImageTextDataModule: must have a trainer, whose model turns captions into tokens "
                f"(tokenize), got {self.model_name}. Set datamodule.tokenize."
            )
        training = purpose == "train"
        return PairCollator(
            self.picture_format(self.augment if training else None, self.seed),
            tokenize,
            self.captions_in_training if training else "all",
            wants_images=not training or getattr(self.model, "wants_images", True),
        )

    def _known_bad(self, collator: PairCollator) -> frozenset[int]:
        # Where pictures are read, those are found again, and written down.
        return frozenset() if collator.wants_images else self._left_out

    def _stream(self, split: str) -> PairStream | None:
        streams = [source for source in self.sources[split] if isinstance(source, PairStream)]
        if not streams:
            return None
        if len(self.sources[split]) > 1:
            raise ValueError(
                f"ImageTextDataModule: {split} must be one stream or several other sources, got "
                f"{len(self.sources[split])} with a stream among them. Name all shards in one."
            )
        if split == "train" and self.val_share is not None:
            raise ValueError(
                f"ImageTextDataModule: val must be a source where train is a stream, got the share "
                f"{self.val_share}. Put some shards aside."
            )
        return streams[0]
