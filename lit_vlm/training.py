"""Training that weights every token alike, whatever batch, micro-batch or rank it is in."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from lit_vlm.language_models.base import TokenLoss
from lit_vlm.optim import Schedule
from lit_vlm.trainable import TrainableModule


class TokenWeightedModule(TrainableModule, ABC):
    """A trainable model whose ``forward`` returns a summed loss and the number of its tokens.

    A step's loss is the sum over all supervised tokens of its micro-batches and ranks, divided by
    their number: 1 x 8 samples, 8 accumulated x 1 and 2 ranks x 4 give the same gradient.

    Args:
        learning_rate: see ``TrainableModule``, as for the others.
        weight_decay: see there.
        betas: see there.
        warmup: see there.
        schedule: see there.
        min_learning_rate: see there.
    """

    def __init__(
        self,
        learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float],
        warmup: int | float,
        schedule: Schedule,
        min_learning_rate: float,
    ) -> None:
        super().__init__(learning_rate, weight_decay, betas, warmup, schedule, min_learning_rate)
        self._window: Tensor | None = None
        self._reference = torch.ones(())
        self._since_log = torch.zeros(3)

    @abstractmethod
    def forward(self, batch: Any) -> TokenLoss:
        """Return the summed loss of a batch and the number of its supervised tokens."""

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

    def _log_training(self, loss: TokenLoss, truncated: int) -> None:
        cut = torch.tensor(float(truncated), device=self.device)
        sums = torch.stack([loss.total.detach().float(), loss.num_tokens.float(), cut])
        self._since_log = self._since_log.to(self.device) + sums
        if not self._logs_now:
            return
        pace = torch.tensor(self._throughput.read(), device=self.device)
        loss_sum, tokens, num_cut, *rates = self._mean_over_ranks(
            torch.cat([self._since_log, pace])
        ).tolist()
        self._since_log = torch.zeros(3)
        self.log("train/loss", loss_sum / max(tokens, 1), prog_bar=True, batch_size=1)
        counts = {"train/truncated_samples": num_cut * self.trainer.world_size}
        self.log_dict(self._pace(*rates) | counts | self._learning_rates(), batch_size=1)
