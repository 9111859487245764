"""What data modules of pictures share: splits, order, position, and a ledger."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import Dataset

from lit_vlm.configurable import Configurable
from lit_vlm.data.augmentation import Augmentation
from lit_vlm.data.joined_pictures import JoinedPictures, listed
from lit_vlm.data.mixture import Mixture, mixture_of
from lit_vlm.data.mixture_order import MixtureOrder
from lit_vlm.data.mixture_report import MixtureReport
from lit_vlm.data.passed_over import PassedOver
from lit_vlm.data.picture_batches import PictureSampler, ShareSampler, in_order
from lit_vlm.data.picture_loader import PictureLoader, Record
from lit_vlm.data.sampling import TrainingOrder
from lit_vlm.data.stage_batches import StagedPass, staged_batches
from lit_vlm.data.trainer_facts import TrainerFacts
from lit_vlm.data.training_order import Ordering, training_order
from lit_vlm.stages import Stage

Split = Literal["train", "val", "test"]
Purpose = Literal["train", "evaluate", "share"]
"""To train on; to evaluate on, alike on all ranks; or each picture once over all ranks."""


class PictureDataModule(Configurable, TrainerFacts, ABC):
    """Feed pictures to what pretrains an encoder.

    The trainer's model says how large pictures must be (``image_size``) and how others are brought
    there (``resize``, ``fill``); the attributes of these names are for use without a trainer.

    Args:
        train: a source, or several that are mixed, in a list or by names.
        val: a source or several, or about the share of the training pictures to hold out; the seed
            and a picture's identity (its file) decide, whatever list the picture is in.
        test: a source or several.
        batch_size: pictures of a training batch on one rank.
        eval_batch_size: pictures of any other batch on one rank; None for ``batch_size``.
        num_workers: processes that read and decode beside the training process, per rank.
        seed: chooses order, views, and the held-out share.
        augment: makes views of training pictures; None to resize them.
        drop_last: leave a last, shorter training batch out; its pictures change with the epoch.
        keep_in_memory: keep decoded pictures, in each process that reads them.

    Raises:
        ValueError: if an argument is out of range.

    Attributes:
        follows_stages: whether training batches change with the stages of ``StagedFreezing``.
    """

    follows_stages = True

    def __init__(
        self,
        train: Any,
        val: Any,
        test: Any,
        batch_size: int,
        eval_batch_size: int | None,
        num_workers: int,
        seed: int,
        augment: Augmentation | None,
        drop_last: bool,
        keep_in_memory: bool,
    ) -> None:
        super().__init__()
        numbers: dict[str, tuple[int | None, int]]
        numbers = {"batch_size": (batch_size, 1), "num_workers": (num_workers, 0)}
        numbers |= {"eval_batch_size": (eval_batch_size, 1), "seed": (seed, 0)}
        for name, (value, least) in numbers.items():
            if value is not None and value < least:
                raise ValueError(
                    f"{type(self).__name__}: {name} must be at least {least}, got {value}."
                )
        self.val_share = float(val) if isinstance(val, int | float) else None
        if self.val_share is not None and not 0 < self.val_share < 1:
            raise ValueError(
                f"{type(self).__name__}: val must be a source, or a share of the training "
                f"pictures between 0 and 1, got {val}."
            )
        given = {"train": train, "val": None if self.val_share else val, "test": test}
        self.sources: dict[str, list[Any]] = {name: listed(s) for name, s in given.items()}
        if self.val_share is not None and not self.sources["train"]:
            raise ValueError(
                f"{type(self).__name__}: val must be a source where train is none, got the share "
                f"{val} of no pictures. Give --data.train, or --data.val a source or null."
            )
        self.source_names = list(train) if isinstance(train, Mapping) else []
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.augment = augment
        self.drop_last = drop_last
        self.keep_in_memory = keep_in_memory
        self._pictures: dict[str, JoinedPictures[Any]] = {}
        self._passed_over = PassedOver(self)
        self._mixtures = MixtureReport()

    def setup(self, stage: str) -> None:
        """Index the files of a stage."""
        name = str(TrainerFn(stage).value)  # of "TrainerFn.TESTING", the word that configs know
        splits = {"fit": ["train", "val"], "validate": ["val"]}.get(name, [name])
        for split in splits:
            if self.has_split(split):
                self.prepare_split(split)
        if name == "fit" and self.trainer is not None and not self.has_split("val"):
            # Training without validation data is allowed; Lightning warns of an empty loader.
            self.trainer.limit_val_batches = 0

    def has_split(self, split: str) -> bool:
        """Whether there is a source for a split, or a share of the training pictures."""
        return bool(self.sources.get(split)) or (split == "val" and self.val_share is not None)

    def prepare_split(self, split: str) -> None:
        """Index the files of a split, unless that is done."""
        self.pictures(split)

    def pictures(self, split: str) -> JoinedPictures[Any]:
        """Return the pictures of a split; their places are the ``index`` of batches.

        Raises:
            ValueError: if the split has no source.
        """
        if split in self._pictures:
            return self._pictures[split]
        if not self.has_split(split):
            raise ValueError(
                f"{type(self).__name__}: {split} must have a source, got none. Give --data.{split}."
            )
        shared = split in ("train", "val") and self.val_share is not None
        sources = self.sources["train" if shared else split]
        for source in sources:
            source.prepare()
        joined = JoinedPictures(sources, in_memory=self.keep_in_memory)
        if shared:
            assert self.val_share is not None
            parts = joined.split(self.val_share, self.seed)
            self._pictures["train"], self._pictures["val"] = parts
        else:
            self._pictures[split] = joined
        return self._pictures[split]

    def train_dataloader(self) -> Any:
        """Return shuffled training batches, from where a resumed run stopped."""
        return self.training_loader(staged_batches(self.trainer, self.batches_per_pass))

    def val_dataloader(self) -> Any:
        """Return validation batches in order, without augmentation."""
        return self.evaluation_loader("val", "evaluate")

    def test_dataloader(self) -> Any:
        """Return test batches in order, without augmentation."""
        return self.evaluation_loader("test", "evaluate")

    def batches_per_pass(self, stage: Stage) -> int:
        """Return how many batches a pass over a stage's data has, on this rank.

        Raises:
            ValueError: if the stage asks for what is no matter of pictures.
        """
        self.check_reading(stage)
        _, _, order = self._order(stage)
        return len(self._sampler(order, stage))

    def check_reading(self, stage: Stage) -> None:
        """Raise ``ValueError`` if a stage asks for what is a matter of dialogues."""
        if stage.reading:
            raise ValueError(
                f"{type(self).__name__}: a stage can change how dialogues are read, not pictures "
                f"and captions, got {' and '.join(stage.reading)}. Leave it out."
            )

    def training_loader(self, staged: StagedPass | None) -> Any:
        """Return training batches of a pass, or of all passes of a run without stages."""
        stage, first = (None, 0) if staged is None else (staged.stage, staged.first)
        mixture, samples, order = self._order(stage, first)
        step = self.batch_size_of(stage) * self.ranks[0]
        self._mixtures.tell(self.trainer, mixture, order, list(map(len, samples)), step, staged)
        sampler = self._sampler(order, stage, **self.place_of(staged))
        return self._loader("train", "train", sampler)

    def place_of(self, staged: StagedPass | None) -> dict[str, Any]:
        """Return where training batches begin and end; see ``BatchSampler``."""
        if staged is None:
            return self.position
        return staged.sampling(self.batches_per_pass(staged.stage))

    def batch_size_of(self, stage: Stage | None) -> int:
        """Return the pictures of a training batch on one rank."""
        said = None if stage is None else stage.batch_size
        return said or self.batch_size

    def evaluation_loader(self, split: str, purpose: Purpose) -> Any:
        """Return batches in order, without augmentation."""
        num_pictures, ranks = len(self.pictures(split)), self.ranks
        if purpose == "share":
            share = ShareSampler(num_pictures, self.eval_batch_size, *ranks)
            return self._loader(split, purpose, share)
        order = in_order(num_pictures)
        sampler = PictureSampler(lambda epoch: order, self.eval_batch_size, *ranks)
        return self._loader(split, purpose, sampler)

    def recorder(self, split: str) -> Record:
        """Return what takes the pictures of a split that were passed over."""
        shared = split == "val" and self.val_share is not None
        sources = self.sources["train" if shared else split]
        return partial(self._passed_over.record, split, sources)

    @abstractmethod
    def dataset(self, split: str, purpose: Purpose) -> Dataset[Any]:
        """Return what makes the batches of a split."""

    def teardown(self, stage: str) -> None:
        """Say how many pictures were passed over, and how many were read of each source."""
        self._passed_over.close()
        if stage == "fit":
            self._mixtures.close()
            self._mixtures = MixtureReport()

    def _order(
        self, stage: Stage | None, first: int = 0
    ) -> tuple[Mixture, list[list[int]], TrainingOrder | MixtureOrder]:
        pictures = self.pictures("train")
        mixture = mixture_of(self.source_names, len(pictures.sources), stage=stage)
        samples = [pictures.of_sources([place]) for place in mixture.places]
        step = self.batch_size_of(stage) * self.ranks[0]
        limit = getattr(self.trainer, "limit_train_batches", 1.0)
        how = Ordering(self.seed, step, self.drop_last, limit)
        return mixture, samples, training_order(mixture, samples, how, first)

    def _sampler(
        self, order: TrainingOrder | MixtureOrder, stage: Stage | None, **position: Any
    ) -> PictureSampler:
        size = self.batch_size_of(stage)
        return PictureSampler(order, size, *self.ranks, drop_last=self.drop_last, **position)

    def _loader(self, split: str, purpose: Purpose, sampler: Any) -> PictureLoader:
        return PictureLoader(
            self.dataset(split, purpose),
            sampler,
            self.recorder(split),
            self.num_workers,
            self.seed,
            pin_memory=self.pins_memory,
        )
