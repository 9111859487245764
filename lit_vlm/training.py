"""Training that weights every token alike, whatever batch, micro-batch or rank it is in."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lit_vlm.deepspeed_engine import check_accumulation, leave_out_frozen, uses_deepspeed
from lit_vlm.freezing import trains
from lit_vlm.language_models.base import TokenLoss
from lit_vlm.optim import Schedule, parameter_groups, schedule_factor, steps_or_share
from lit_vlm.part import Part
from lit_vlm.run_length import steps_of_run
from lit_vlm.sharding import shard
from lit_vlm.throughput import Throughput


class TokenWeightedModule(Part, ABC):
    """A trainable model whose ``forward`` returns a summed loss and the number of its tokens.

    A step's loss is the sum over all supervised tokens of its micro-batches and ranks, divided by
    their number: 1 x 8 samples, 8 accumulated x 1 and 2 ranks x 4 give the same gradient.

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
        self._window: Tensor | None = None
        self._reference = torch.ones(())
        self._since_log = torch.zeros(3)
        self._throughput = Throughput()

    @property
    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The model's parts by name, for parameter groups, logs and tables."""

    @abstractmethod
    def forward(self, batch: Any) -> TokenLoss:
        """Return the summed loss of a batch and the number of its supervised tokens."""

    def configure_model(self) -> None:
        """Split the weights between processes where the strategy does so (FSDP2)."""
        shard(self, self.device_mesh, self.evaluation_methods)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return a micro-batch's share of the step's loss."""
        loss = self(batch)
        count = loss.num_tokens.float()
        if self._window is None:
            # Any divisor would do that all ranks and micro-batches of the step share; this one
            # is right at once when there is only one micro-batch.
            self._reference = self._mean_over_ranks(count).clamp(min=1)
            self._window = torch.zeros_like(count)
        self._window = self._window + count
        self._throughput.count(len(batch), batch.num_tokens)
        self._log_training(loss, batch.num_truncated)
        return loss.total / self._reference * self.trainer.accumulate_grad_batches

    def on_after_backward(self) -> None:
        """Once a step's gradients are complete, divide them by the number of its tokens."""
        if self._window is None or self.trainer.fit_loop._should_accumulate():
            return
        if self.trainer.accumulate_grad_batches > 1:
            factor = self._reference / self._mean_over_ranks(self._window).clamp(min=1)
            gradients = [p.grad for p in self.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, factor.item())
        self._window = None

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

    def _log_training(self, loss: TokenLoss, truncated: int) -> None:
        cut = torch.tensor(float(truncated), device=self.device)
        sums = torch.stack([loss.total.detach().float(), loss.num_tokens.float(), cut])
        self._since_log = self._since_log.to(self.device) + sums
        connector = self.trainer._logger_connector
        if not connector.should_update_logs or self.trainer.fit_loop._should_accumulate():
            return
        pace = torch.tensor(self._throughput.read(), device=self.device)
        loss_sum, tokens, num_cut, *rates = self._mean_over_ranks(
            torch.cat([self._since_log, pace])
        ).tolist()
        self._since_log = torch.zeros(3)
        self.log("train/loss", loss_sum / max(tokens, 1), prog_bar=True, batch_size=1)
        counts = {"train/truncated_samples": num_cut * self.trainer.world_size}
        self.log_dict(self._pace(*rates) | counts | self._learning_rates(), batch_size=1)

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
