"""What ways of pretraining share in which a teacher follows its student."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from jaxtyping import Float, Shaped
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.distributed.fsdp import register_fsdp_forward_method
from torch.optim import Optimizer

from lit_vlm.encoders import VisionEncoder
from lit_vlm.encoders.pooling import image_vector
from lit_vlm.images import Resize
from lit_vlm.optim import Schedule
from lit_vlm.pretraining.base import PretrainingModule
from lit_vlm.pretraining.distillation_checks import check_run
from lit_vlm.pretraining.step_schedules import cosine_between
from lit_vlm.pretraining.teacher import as_teacher, follow


class StudentTeacherModule(PretrainingModule, ABC):
    """Train a copy of an encoder, ``student``, and let the encoder be the copy's running average.

    The encoder gets no gradient, has no optimizer state, and evaluates even in training. It moves
    once per optimizer step, by an amount that depends on the step alone.

    Args:
        encoder: the encoder that the run makes.
        teacher_momentum: share of the teacher's weights that the first step keeps; it rises to 1.
        final_weight_decay: what ``weight_decay`` goes to in half a cosine; None to let it be.
        resize: see ``PretrainingModule``, as for those that follow.
        learning_rate: see there.
        weight_decay: see there.
        betas: see there.
        warmup: see there.
        schedule: see there.
        min_learning_rate: see there.
    """

    def __init__(
        self,
        encoder: VisionEncoder,
        teacher_momentum: int | float,
        final_weight_decay: int | float | None,
        resize: Resize,
        learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float],
        warmup: int | float,
        schedule: Schedule,
        min_learning_rate: float,
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
        self.teacher_momentum = teacher_momentum
        self.final_weight_decay = final_weight_decay
        self.student = deepcopy(encoder)
        as_teacher(encoder)

    @property
    @abstractmethod
    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Each teacher and its student."""

    @property
    def momentum(self) -> float:
        """Share of the teacher's weights that this step keeps."""
        return cosine_between(self.teacher_momentum, 1.0, self.global_step, self._total_steps)

    def configure_model(self) -> None:
        """Split the weights where the strategy does so, and gather them for a batch's figures."""
        super().configure_model()
        register_fsdp_forward_method(self, "training_figures")

    def forward(self, images: Shaped[Tensor, "B 3 _ _"]) -> Float[Tensor, "B D"]:
        """Return the teacher's vectors of pictures."""
        return image_vector(self.encoder(images))

    def on_train_start(self) -> None:
        """Find out how long the run is, and whether the teacher can follow in it."""
        super().on_train_start()
        check_run(self, self.encoder)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set this step's learning rate and weight decay."""
        super().on_train_batch_start(batch, batch_idx)
        if self.final_weight_decay is None:
            return
        decay = cosine_between(
            self.weight_decay, self.final_weight_decay, self.global_step, self._total_steps
        )
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                if group["weight_decay"]:  # what does not decay never does
                    group["weight_decay"] = decay

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Make a step, and let the teacher follow before any callback saves it."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        for teacher, student in self.pairs:
            follow(teacher, student, self.momentum)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Do nothing: there is no loss without crops; callbacks evaluate the features."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Do nothing, likewise."""
