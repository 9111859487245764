"""Pretraining by classification."""

from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lit_vlm.data.image_batches import LabelledBatch
from lit_vlm.encoders import VisionEncoder
from lit_vlm.encoders.pooling import image_vector, vector_dim
from lit_vlm.images import Resize
from lit_vlm.metrics.item_mean import ItemMean
from lit_vlm.optim import Schedule
from lit_vlm.pretraining.base import PretrainingModule
from lit_vlm.pretraining.mixing import Mixing


class ClassificationPretraining(PretrainingModule):
    """Train an encoder to name the class of a picture: a linear head and the cross-entropy.

    What an encoder pools (``pool: true``), or else the mean of the patches of its last level, goes
    into the head. Validation and test log the loss and the shares of pictures whose class is the
    likeliest, or among the five likeliest.

    Args:
        encoder: the encoder that the run makes.
        num_classes: number of classes of the data.
        label_smoothing: share of the target that all classes get alike.
        mixup: alpha of the beta distribution that pictures of a batch are blended by, two and two;
            0 for never.
        cutmix: the same for a rectangle of one put into the other; with both, each batch draws one
            of them.
        mix_probability: probability that a batch is mixed at all.
        dropout: probability that an input of the head is left out.
        resize: how a picture of another shape is brought to the encoder's size in evaluation:
            ``pad``, ``crop`` or ``stretch``.
        learning_rate: peak learning rate of AdamW.
        weight_decay: AdamW's decay of matrices; biases, norms and positions never decay.
        betas: AdamW's averaging of gradients and of their squares.
        warmup: steps (an integer) or share of the run (a float below 1) of linear warm-up.
        schedule: ``cosine``, ``linear`` or ``constant`` after the warm-up.
        min_learning_rate: share of the peak that the schedule ends at.

    Raises:
        ValueError: if an argument is out of range, or, when ``fit`` begins, the data has another
            number of classes.

    Source:
        mixup (Zhang et al., 2018), https://arxiv.org/abs/1710.09412; CutMix (Yun et al., 2019),
        https://arxiv.org/abs/1905.04899; both are timm's.

    Example:
        >>> import torch
        >>> from lit_vlm.encoders import TimmEncoder
        >>> encoder = TimmEncoder("test_resnet", layers=[2], image_size=64)
        >>> model = ClassificationPretraining(encoder, num_classes=10)
        >>> model(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 10])
    """

    best_by = "val/top1"
    part_names = ("encoder", "head")

    def __init__(
        self,
        encoder: VisionEncoder,
        num_classes: int,
        label_smoothing: int | float = 0.1,
        mixup: int | float = 0.0,
        cutmix: int | float = 0.0,
        mix_probability: int | float = 1.0,
        dropout: int | float = 0.0,
        resize: Resize = "crop",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.999),
        warmup: int | float = 0.05,
        schedule: Schedule = "cosine",
        min_learning_rate: float = 0.0,
    ) -> None:
        super().__init__(
            encoder,
            resize,
            learning_rate,
            weight_decay,
            betas,
            warmup,
            schedule,
            min_learning_rate,
        )
        if num_classes < 2:
            raise ValueError(
                f"ClassificationPretraining: num_classes must be at least 2, got {num_classes}."
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"ClassificationPretraining: label_smoothing must be at least 0 and below 1, got "
                f"{label_smoothing}."
            )
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.mixing = Mixing(mixup, cutmix, mix_probability)
        dim = vector_dim(encoder)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, num_classes))
        self.classes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The encoder and the classifier on it."""
        return {"encoder": self.encoder, "head": self.head}

    def checkpoint_state(self) -> dict[str, Any]:
        """Return the names of the classes."""
        return {"classes": list(self.classes)} if self.classes else {}

    def load_checkpoint_state(self, state: dict[str, Any]) -> None:
        """Take the names of the classes back; the data, if there is any, must have the same."""
        kept = tuple(state["classes"])
        if self.classes:
            _check_same(self.classes, kept)
        self.classes = kept

    def setup(self, stage: str) -> None:
        """Learn the names of the classes, and refuse data that has others.

        Raises:
            ValueError: if the data has another number of classes, or others than those trained on.
        """
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        found = tuple(getattr(datamodule, "classes", ()))
        if not found:
            return
        if len(found) == 1:
            raise ValueError(
                f"ClassificationPretraining: the data must have two classes or more, got "
                f"{found[0]!r} alone."
            )
        if len(found) != self.num_classes:
            raise ValueError(
                f"ClassificationPretraining: num_classes must be the number of classes of the data,"
                f" {len(found)}, got {self.num_classes}. Give --model.num_classes {len(found)}."
            )
        if self.classes:  # else those of a checkpoint are compared when it is restored
            _check_same(found, self.classes)
        self.classes = found

    def forward(self, images: Shaped[Tensor, "B 3 _ _"]) -> Float[Tensor, "B K"]:
        """Return the classes' logits for RGB images, uint8 or float in [0, 1]."""
        return self.head(image_vector(self.encoder(images)))

    def training_figures(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """Return the cross-entropy, and the accuracy where pictures are not mixed."""
        _check_labels(batch)
        if self.mixing.chance > 0:
            images, targets = self.mixing(batch.images, batch.labels, self.num_classes)
            smooth = self.label_smoothing
            return {"loss": cross_entropy(self(images).float(), targets, label_smoothing=smooth)}
        logits = self(batch.images).float()
        loss = cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        return {"loss": loss, "accuracy": (logits.argmax(-1) == batch.labels).float().mean()}

    def validation_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Any]:
        """Score a batch; each picture's score is returned, for ``CheckpointSelection``."""
        return self._score(batch, "val")

    def test_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Any]:
        """Score a batch."""
        return self._score(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the loss and the accuracies over all ranks."""
        self._log_means()

    def on_test_epoch_end(self) -> None:
        """Log the loss and the accuracies over all ranks."""
        self._log_means()

    def _score(self, batch: LabelledBatch, stage: str) -> dict[str, Any]:
        _check_labels(batch)
        logits = self(batch.images).float()
        ranked = logits.topk(min(5, self.num_classes)).indices == batch.labels[:, None]
        first = ranked[:, 0].float()
        values = {
            "loss": cross_entropy(logits, batch.labels, reduction="none"),
            "top1": first,
            "top5": ranked.any(-1).float(),
        }
        for name, value in values.items():
            mean = self._metrics.setdefault(f"{stage}/{name}", ItemMean().to(self.device))
            mean.update(value, batch.index)
        return {"scores": first, "index": batch.index}

    def _log_means(self) -> None:
        # They are the same on all ranks already; Lightning wants to be told to reduce them.
        for name, mean in self._metrics.items():
            self.log(name, mean.compute(), prog_bar=True, sync_dist=True)
            if name.endswith("/top1"):
                samples = float(mean.num_items)
                self.log(name.replace("top1", "samples"), samples, sync_dist=True)
        self._metrics = {}


def _check_same(found: tuple[str, ...], trained: tuple[str, ...]) -> None:
    differing = [name for name, other in zip(found, trained, strict=True) if name != other]
    if differing:
        raise ValueError(
            f"ClassificationPretraining: the data must have the classes that were trained on, got "
            f"{differing[0]!r}, which is none of them, or in another place. For other classes, "
            f"make a new model of the encoder: --model.encoder.pretrained CHECKPOINT."
        )


def _check_labels(batch: LabelledBatch) -> None:
    if (batch.labels < 0).any():
        place = int(batch.index[batch.labels < 0][0])
        raise ValueError(
            f"ClassificationPretraining: every picture must have a class, got picture {place} of "
            f"the data set without one. Leave it out, or pretrain by SelfDistillation."
        )
