"""Dialogues to training, validation, test and prediction batches."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from lit_vlm.configurable import Configurable
from lit_vlm.data.collation import Batch
from lit_vlm.data.datasets import ConversationDataset, Purpose, Sight
from lit_vlm.data.ledger import SkipLedger
from lit_vlm.data.loaders import batch_loader
from lit_vlm.data.mixture import Mixture, check_names, check_weights, mixture_of
from lit_vlm.data.mixture_order import MixtureOrder
from lit_vlm.data.mixture_report import MixtureReport
from lit_vlm.data.modality import shows_images
from lit_vlm.data.sampling import BatchSampler, Slot, TrainingOrder
from lit_vlm.data.sources import ConversationSource, NamedSources, Sources, as_list
from lit_vlm.data.splitting import hold_out, warn_about_shared_images
from lit_vlm.data.stage_batches import staged_batches
from lit_vlm.data.training_order import Ordering, training_order
from lit_vlm.metrics.base import AnswerMetric
from lit_vlm.metrics.chosen import NamedMetrics, choose_metrics
from lit_vlm.processing import Processor
from lit_vlm.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator


class ConversationDataModule(Configurable, LightningDataModule):
    """Feed dialogues with images to a vision-language model.

    Inputs are read by the model's own processor, which the data module asks the trainer's model
    for; set ``processor`` to use the loaders without a trainer.

    Args:
        train: where training dialogues come from: a source, or several that are mixed, in a list
            or by names, which the stages of ``StagedFreezing`` can choose from.
        val: a source, several (in a list or by names), or the share of the training images to
            hold out with all their dialogues; the parts of named training sources keep their names.
        test: a source, or several, in a list or by names.
        predict: a source.
        selection: a source, or the share of the training images to hold out besides, for
            ``CheckpointSelection`` to choose between checkpoints by.
        batch_size: dialogues of a training batch on one rank.
        eval_batch_size: dialogues of any other batch on one rank; None for ``batch_size``.
        num_workers: processes that read and decode beside the training process, per rank.
        seed: chooses the order of the training data and the held-out share.
        rounds_per_sample: most dialogues about the same image to join into one for training;
            the image is then encoded once for several questions, and each answer sees those
            before it. Which are joined changes from epoch to epoch.
        group_by_length: put dialogues of like length into a batch, to pad less.
        group_by_modality: put dialogues with images and others into batches of their own, over all
            ranks; only the last ones of a pass may hold both.
        drop_last: leave a last, shorter training batch out; its dialogues change with the epoch.
        weights: how often training rows are from each source, by name and relative to each other;
            None for each sample once an epoch. An epoch then has as many rows as before, and each
            source goes through its samples at its own pace.
        temperature: weighs the training sources by their sizes to the power of 1 over this: 1 for
            shares by size, more for shares more alike.
        probes: also test with images that are ``shuffled`` between samples or ``blank``: a model
            that looks at its images gets worse.
        metrics: what judges generated answers besides exact match: a metric or several, for all
            sources, or for each by its name.

    Raises:
        ValueError: if an argument is out of range, a stage has no source, or metrics are chosen
            for a source that there is not.

    Attributes:
        follows_stages: whether training batches change with the stages of ``StagedFreezing``.
    """

    follows_stages = True

    def __init__(
        self,
        train: NamedSources = None,
        val: NamedSources | float | int = None,
        test: NamedSources = None,
        predict: Sources = None,
        selection: Sources | float | int = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        rounds_per_sample: int = 1,
        group_by_length: bool = False,
        group_by_modality: bool = False,
        drop_last: bool = False,
        weights: dict[str, int | float] | None = None,
        temperature: int | float | None = None,
        probes: Sequence[Sight] = ("shuffled", "blank"),
        metrics: NamedMetrics = None,
    ) -> None:
        super().__init__()
        numbers = {
            "batch_size": batch_size,
            "eval_batch_size": eval_batch_size,
            "rounds_per_sample": rounds_per_sample,
        }
        for name, value in numbers.items():
            if value is not None and value < 1:
                raise ValueError(f"ConversationDataModule: {name} must be at least 1, got {value}.")
        held_out = {"val": val, "selection": selection}
        self.shares = {k: float(v) for k, v in held_out.items() if isinstance(v, int | float)}
        for name, share in self.shares.items():
            if not 0 < share < 1:
                raise ValueError(
                    f"ConversationDataModule: {name} must be a source, or a share of the training "
                    f"images between 0 and 1, got {held_out[name]}."
                )
        self.sources: dict[str, list[ConversationSource]] = {
            "train": as_list(train),
            "val": [] if isinstance(val, int | float) else as_list(val),
            "test": as_list(test),
            "predict": as_list(predict),
            "selection": [] if isinstance(selection, int | float) else as_list(selection),
        }
        self._given = self.sources["train"]  # before any share of it is held out
        given = {"train": train, "val": val, "test": test}
        self.names = {k: list(v) if isinstance(v, Mapping) else [] for k, v in given.items()}
        for name in self.shares:
            self.names[name] = self.names["train"]
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.rounds_per_sample = rounds_per_sample
        self.group_by_length = group_by_length
        self.group_by_modality = group_by_modality
        check_names("ConversationDataModule", self.names["train"], weights)
        check_weights("ConversationDataModule", "weights", weights, temperature)
        self.weights = weights
        self.temperature = temperature
        self.drop_last = drop_last
        self.probes = tuple(probes)
        known = {name for names in self.names.values() for name in names}
        self.metrics = choose_metrics(metrics, known)
        self._processor: Processor | None = None
        self._prepared: set[int] = set()
        self._position: dict[str, Any] = {}
        self._ledgers: dict[str, SkipLedger] = {}
        self._stage_lengths: dict[tuple[Any, ...], int] = {}
        self._mixtures = MixtureReport()

    @property
    def processor(self) -> Processor:
        """How the model reads its inputs."""
        if self._processor is not None:
            return self._processor
        model = self.trainer.lightning_module if self.trainer is not None else None
        processor = getattr(model, "processor", None)
        if processor is None:
            raise ValueError(
                f"ConversationDataModule: must know how the model reads its inputs, but "
                f"{type(model).__name__} has no processor. Set datamodule.processor."
            )
        return processor

    @processor.setter
    def processor(self, processor: Processor) -> None:
        self._processor = processor

    def setup(self, stage: str) -> None:
        """Index the files of a stage."""
        self._stage_lengths = {}
        asked = {"fit": ["train", "val", "selection"], "validate": ["val"]}.get(stage, [stage])
        stages = asked if self.shares.keys().isdisjoint(asked) else ["train", *asked]
        for name in stages:
            for source in self.sources[name]:
                if id(source) not in self._prepared:
                    source.prepare()
                    self._prepared.add(id(source))
        if "train" in stages and self.shares:
            self._carve()
        if stage == "fit":
            self._warn_about_shared_images()
        if stage == "fit" and self.trainer is not None and not self.sources["val"]:
            # Training without validation data is allowed; Lightning warns of an empty loader.
            self.trainer.limit_val_batches = 0

    def training_texts(self) -> "Iterator[str]":
        """Yield the texts of the training dialogues, for a tokenizer to be trained on."""
        for source in self._sources("train"):
            yield from source.texts()

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled training batches, from where a resumed run stopped."""
        staged = staged_batches(self.trainer, self._batches)
        stage = None if staged is None else staged.stage
        dataset = self._dataset("train", "train", reading={} if stage is None else stage.reading)
        mixture = self._mixture(stage)
        order = self._order(dataset, mixture, stage, 0 if staged is None else staged.first)
        sampling = self._position
        if staged is not None:
            sampling = staged.sampling(self._batches(staged.stage))
        samples = [len(dataset.sources[place]) for place in mixture.places]
        step = self._global_batch_size(stage)
        self._mixtures.tell(self.trainer, mixture, order, samples, step, staged)
        batch_size = self._batch_size(stage)
        return self._loader(dataset, order, batch_size, drop_last=self.drop_last, **sampling)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return validation batches in order."""
        return self._evaluation_loader("val", "evaluate", "real")

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """Return test batches in order: with the real images, then once for each probe."""
        sights: tuple[Sight, ...] = ("real", *self.probes)
        return [self._evaluation_loader("test", "evaluate", sight) for sight in sights]

    def selection_dataloader(self) -> DataLoader[Any]:
        """Return batches in order, of the data that chose no checkpoint yet."""
        return self._evaluation_loader("selection", "evaluate", "real")

    def metrics_of(self, source: str) -> list[AnswerMetric]:
        """Return what judges the answers to a source's questions; its name is empty if it has none.

        Args:
            source: its name.
        """
        return self.metrics.get(source, self.metrics.get("", []))

    def has_split(self, split: str) -> bool:
        """Whether there is a source for a split, or a share of the training images."""
        return bool(self.sources.get(split)) or split in self.shares

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return prompts in order."""
        return self._evaluation_loader("predict", "predict", "real")

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Write skipped samples down."""
        if batch.skipped and self.trainer is not None:
            self._ledger().record(batch.skipped)
        return batch

    def teardown(self, stage: str) -> None:
        """Say how many samples were passed over, and where they are named."""
        for ledger in self._ledgers.values():
            if ledger.total:
                rank_zero_warn(
                    f"{ledger.total} samples could not be used and others stood in for them; "
                    f"{ledger.path} names them and why."
                )
        self._ledgers = {}
        if stage == "fit":
            self._mixtures.close()
            self._mixtures = MixtureReport()

    def state_dict(self) -> dict[str, Any]:
        """Return how many batches the run has consumed over all epochs, and how many one has."""
        if self.trainer is None:
            return self._position
        loop: Any = self.trainer.fit_loop
        return {
            "position": loop.epoch_loop.batch_progress.total.processed,
            "epoch_length": loop.max_batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the batches that were consumed."""
        self._position = state_dict

    def _sources(self, stage: str) -> list[ConversationSource]:
        if not self.sources[stage]:
            raise ValueError(
                f"ConversationDataModule: {stage} must have a source, got none. Give "
                f"--data.{stage}, or --data FILE.jsonl."
            )
        return self.sources[stage]

    def _dataset(
        self,
        stage: str,
        purpose: Purpose,
        sight: Sight = "real",
        reading: Mapping[str, Any] = MappingProxyType({}),
    ) -> ConversationDataset:
        sources = self._sources(stage)
        processor = self.processor.changed(**reading) if reading else self.processor
        names = self.names.get(stage, [])
        return ConversationDataset(sources, processor, purpose, sight, self.seed, names)

    def _batch_size(self, stage: Stage | None) -> int:
        said = None if stage is None else stage.batch_size
        return said or self.batch_size

    def _global_batch_size(self, stage: Stage | None) -> int:
        return self._batch_size(stage) * (self.trainer.world_size if self.trainer else 1)

    def _mixture(self, stage: Stage | None) -> Mixture:
        names, count = self.names["train"], len(self.sources["train"])
        return mixture_of(names, count, self.weights, self.temperature, stage)

    def _order(
        self,
        dataset: ConversationDataset,
        mixture: Mixture,
        stage: Stage | None = None,
        first: int = 0,
    ) -> TrainingOrder | MixtureOrder:
        samples = [dataset.samples_of(place) for place in mixture.places]
        return training_order(mixture, samples, self._ordering(dataset, stage), first)

    def _ordering(self, dataset: ConversationDataset, stage: Stage | None) -> Ordering:
        return Ordering(
            self.seed,
            self._global_batch_size(stage),
            self.drop_last,
            getattr(self.trainer, "limit_train_batches", 1.0),
            groups=dataset.groups_by_image() if self.rounds_per_sample > 1 else None,
            rounds=self.rounds_per_sample,
            lengths=dataset.lengths() if self.group_by_length else None,
            shows_images=shows_images(dataset.sources) if self.group_by_modality else None,
        )

    def _batches(self, stage: Stage) -> int:
        # Of a whole pass over a stage's data, on this rank.
        mixture = self._mixture(stage)
        key = (stage.batch_size, mixture)
        if key not in self._stage_lengths:
            dataset = self._dataset("train", "train")
            order = self._order(dataset, mixture, stage)
            batch_size = self._batch_size(stage)
            loader = self._loader(dataset, order, batch_size, drop_last=self.drop_last)
            self._stage_lengths[key] = len(loader)
        return self._stage_lengths[key]

    def _evaluation_loader(self, stage: str, purpose: Purpose, sight: Sight) -> DataLoader[Any]:
        dataset = self._dataset(stage, purpose, sight)
        slots = [Slot((i,)) for i in range(len(dataset))]
        return self._loader(dataset, lambda epoch: slots, self.eval_batch_size)

    def _loader(
        self, dataset: ConversationDataset, order: Any, batch_size: int, **sampling: Any
    ) -> DataLoader[Any]:
        trainer = self.trainer
        sampler = BatchSampler(
            order,
            batch_size,
            trainer.world_size if trainer else 1,
            trainer.global_rank if trainer else 0,
            **sampling,
        )
        on_gpu = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return batch_loader(dataset, sampler, self.num_workers, self.seed, pin_memory=on_gpu)

    def _carve(self) -> None:
        # The list is built anew from the sources as given, so a second setup changes nothing.
        parts = hold_out(self._given, self.shares, self.seed)
        for name in ("train", *self.shares):
            self.sources[name] = [part[name] for part in parts]

    def _warn_about_shared_images(self) -> None:
        named = {"train": "training", "val": "validation", "selection": "selection"}
        for one, other in (("train", "val"), ("train", "selection"), ("val", "selection")):
            if other not in self.shares or one not in ("train", *self.shares):
                names = f"{named[one]} and in the {named[other]}"
                warn_about_shared_images(self.sources[one], self.sources[other], names)

    def _ledger(self) -> SkipLedger:
        trainer = self.trainer
        assert trainer is not None
        stage = {"fit": "train", "validate": "val"}.get(
            str(trainer.state.fn), str(trainer.state.fn)
        )
        if trainer.sanity_checking:
            stage = "val"
        if trainer.validating:
            # Checkpoints are compared on other data than that of validation.
            evaluated: Any = trainer.val_dataloaders
            read = evaluated.dataset.sources
            stage = next(name for name, sources in self.sources.items() if sources == read)
        if stage not in self._ledgers:
            path = Path(trainer.default_root_dir) / f"skipped-{stage}.jsonl"
            self._ledgers[stage] = SkipLedger(path, self.sources[stage])
        return self._ledgers[stage]
