"""What every trainable model of this library has: AdamW, a schedule, figures of its pace."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lit_vlm.deepspeed_engine import check_accumulation, leave_out_frozen, uses_deepspeed
from lit_vlm.freezing import trains
from lit_vlm.optim import Schedule, parameter_groups, schedule_factor, steps_or_share
from lit_vlm.part import Part
from lit_vlm.run_length import steps_of_run
from lit_vlm.sharding import shard
from lit_vlm.throughput import Throughput


class TrainableModule(Part, ABC):
    """A model of parts that trains by AdamW, with a learning rate that depends on the step alone.

    Args:
        learning_rate: peak learning rate of AdamW.
        weight_decay: AdamW's decay of matrices; biases, norms and positions never decay.
        betas: AdamW's averaging of gradients and of their squares.
        warmup: steps (an integer) or share of the run (a float below 1) of linear warm-up.
        schedule: ``cosine``, ``linear`` or ``constant`` after the warm-up.
        min_learning_rate: share of the peak that the schedule ends at.

    Raises:
        ValueError: if the learning rate is not positive or a share is out of range.
    """

    evaluation_methods: ClassVar[tuple[str, ...]] = ()
    """Methods that run the whole model without gradients, beside ``forward``."""

    def __init__(
        self,
        learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float],
        warmup: int | float,
        schedule: Schedule,
        min_learning_rate: float,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if learning_rate <= 0:
            raise ValueError(f"{name}: learning_rate must be positive, got {learning_rate}.")
        if not 0 <= min_learning_rate <= 1:
            raise ValueError(
                f"{name}: min_learning_rate must be a share of the peak between 0 and 1, got "
                f"{min_learning_rate}."
            )
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.betas = betas
        self.warmup = steps_or_share(warmup, name)
        self.schedule = schedule
        self.min_learning_rate = min_learning_rate
        self._total_steps: int | float = math.inf
        self._throughput = Throughput()

    @property
    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The model's parts by name, for parameter groups, logs and tables."""

    def configure_model(self) -> None:
        """Split the weights between processes where the strategy does so (FSDP2)."""
        shard(self, self.device_mesh, self.evaluation_methods)

    def on_train_start(self) -> None:
        """Find out how many steps the run has, for the schedule."""
        self._total_steps = steps_of_run(self.trainer)
        if self._rates_are_set_for_it:
            return
        if math.isinf(self._total_steps) and self.schedule != "constant":
            raise ValueError(
                f"{type(self).__name__}: schedule {self.schedule!r} must know where the run ends, "
                f"got neither max_epochs nor max_steps. Give one, or schedule: constant."
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of this step, unless a callback sets it."""
        self._throughput.begin_batch()
        if self._rates_are_set_for_it:
            return
        factor = self.learning_rate_factor(self.trainer.global_step)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * group.get("lr_multiplier", 1.0) * factor

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Begin to wait for the next batch."""
        self._throughput.end_batch()

    def on_validation_start(self) -> None:
        """Leave validation out of the training's pace."""
        self._throughput.pause()

    def learning_rate_factor(self, step: int) -> float:
        """Return the schedule's factor at an optimizer step of this run."""
        total = 0 if math.isinf(self._total_steps) else int(self._total_steps)
        return schedule_factor(step, total, self.warmup, self.schedule, self.min_learning_rate)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW over every parameter; see ``parameter_groups``."""
        if not trains(self):
            raise ValueError(
                f"{type(self).__name__}: some part must train, got all of them frozen. Leave one "
                f"out of what is frozen."
            )
        # In mixed precisions Lightning refuses to clip gradients for the fused step.
        fused = not self.trainer.precision.endswith("-mixed")
        groups = parameter_groups(self.parts, self.weight_decay)
        adam = torch.optim.AdamW(groups, lr=self.learning_rate, betas=self.betas, fused=fused)
        if uses_deepspeed(self.trainer):
            check_accumulation(self, self.trainer)
            leave_out_frozen([adam])
        return adam

    @property
    def _rates_are_set_for_it(self) -> bool:
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        return any(getattr(callback, "sets_learning_rates", False) for callback in callbacks)

    def _mean_over_ranks(self, value: Tensor) -> Tensor:
        reduced = self.trainer.strategy.reduce(value.clone(), reduce_op="mean")
        assert isinstance(reduced, Tensor)
        return reduced

    @property
    def _logs_now(self) -> bool:
        connector = self.trainer._logger_connector
        return connector.should_update_logs and not self.trainer.fit_loop._should_accumulate()

    def _pace(
        self, samples: float, tokens: float, seconds: float, waited: float
    ) -> dict[str, float]:
        world = self.trainer.world_size
        seconds = max(seconds, 1e-9)
        return {
            "train/samples_per_second": samples * world / seconds,
            "train/tokens_per_second": tokens * world / seconds,
            "train/data_wait_share": waited / seconds,
        }

    def _learning_rates(self) -> dict[str, float]:
        rates: dict[str, float] = {}
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                if "part" in group:
                    name = f"lr/{group['part']}"
                    on = uses_deepspeed(self.trainer) or any(
                        p.requires_grad for p in group["params"]
                    )
                    rate = group["lr"] if on else 0.0
                    rates[name] = max(rate, rates.get(name, 0.0))
        return rates
