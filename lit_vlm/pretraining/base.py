"""What all ways of pretraining an encoder share."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from lit_vlm.data import (
    ConversationDataModule,
    ImageClassificationDataModule,
    ImageDataModule,
)
from lit_vlm.data.picture_datamodule import PictureDataModule
from lit_vlm.encoders import VisionEncoder
from lit_vlm.images import Resize
from lit_vlm.optim import Schedule
from lit_vlm.part_rates import PartLR
from lit_vlm.stages import Stage
from lit_vlm.trainable import TrainableModule


class PretrainingModule(TrainableModule, ABC):
    """Train a vision encoder, ``self.encoder``, to be taken into a vision-language model.

    A checkpoint of it, of whatever class, is a value of an encoder's ``pretrained``.

    Args:
        encoder: the encoder that the run makes.
        resize: how a picture of another shape is brought to the encoder's size in evaluation:
            ``pad``, ``crop`` or ``stretch``.
        learning_rate: see ``TrainableModule``, as for those that follow.
        weight_decay: see there.
        betas: see there.
        warmup: see there.
        schedule: see there.
        min_learning_rate: see there.
    """

    reads: ClassVar[type[PictureDataModule]] = ImageClassificationDataModule
    """The data module whose batches it is trained on."""

    best_by: ClassVar[str | None] = None
    """The figure that ``BestCheckpoint`` monitors unless it is told; None for no best state."""

    part_names: ClassVar[tuple[str, ...]]
    """What trains, for those who ask before there is a model."""

    @classmethod
    def plan_of(cls, options: dict[str, Any]) -> tuple[dict[str, Stage], dict[str, PartLR]]:
        """Return the stages and rates that constructor arguments imply; none unless it says so.

        Args:
            options: the arguments, as plain values.
        """
        return {}, {}

    def __init__(
        self,
        encoder: VisionEncoder,
        resize: Resize,
        learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float],
        warmup: int | float,
        schedule: Schedule,
        min_learning_rate: float,
    ) -> None:
        super().__init__(learning_rate, weight_decay, betas, warmup, schedule, min_learning_rate)
        self.encoder = encoder
        self.resize: Resize = resize
        self._figures: dict[str, Tensor] = {}
        self._num_figures = 0
        self._metrics: dict[str, Any] = {}  # of a validation or test, until they are logged

    def setup(self, stage: str) -> None:
        """Refuse a data module of this library that is not meant for this module.

        Raises:
            ValueError: if it yields other batches.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        kinds = (ConversationDataModule, PictureDataModule, ImageDataModule)
        if isinstance(datamodule, kinds) and not isinstance(datamodule, self.reads):
            raise ValueError(
                f"{type(self).__name__}: data must be {self.reads.__name__}, got "
                f"{type(datamodule).__name__}. Give --data {self.reads.__name__}."
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures that the encoder works at, in pixels."""
        return self.encoder.image_size

    @property
    def fill(self) -> tuple[int, int, int]:
        """The encoder's mean colour, which pads pictures."""
        return self.encoder.fill

    @abstractmethod
    def training_figures(self, batch: Any) -> dict[str, Tensor]:
        """Return the ``loss`` of a batch, and further figures to be logged beside it.

        All are means over the batch's samples on this rank.
        """

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch; log the figures' means since they were last logged."""
        figures = self.training_figures(batch)
        self._throughput.count(len(batch), 0)
        for name, value in figures.items():
            self._figures[name] = self._figures.get(name, 0) + value.detach().float()
        self._num_figures += 1
        if self._logs_now:
            self._log_figures()
        return figures["loss"]

    def _log_figures(self) -> None:
        names = list(self._figures)
        sums = torch.stack([self._figures[name] for name in names]) / self._num_figures
        pace = torch.tensor(self._throughput.read(), device=self.device)
        *means, samples, tokens, seconds, waited = self._mean_over_ranks(
            torch.cat([sums, pace])
        ).tolist()
        self._figures, self._num_figures = {}, 0
        logged = {f"train/{name}": mean for name, mean in zip(names, means, strict=True)}
        self.log("train/loss", logged.pop("train/loss"), prog_bar=True, batch_size=1)
        rates = self._pace(samples, tokens, seconds, waited)
        rates.pop("train/tokens_per_second")
        self.log_dict(logged | rates | self._learning_rates(), batch_size=1)
