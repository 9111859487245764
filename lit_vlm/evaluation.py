"""Evaluation by generating answers, with the loss beside them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from lit_vlm.data.collation import Batch
from lit_vlm.language_models.base import TokenLoss
from lit_vlm.metrics import AnswerAccuracy
from lit_vlm.optim import Schedule
from lit_vlm.predictions import Prediction
from lit_vlm.training import TokenWeightedModule

Answers = dict[str, list[Any]]
"""What an evaluation step returns, for callbacks: its ``predictions`` and, where these are scored,
``scores`` (1 for a right answer, 0 for a wrong one), the samples' ``index`` in the data and
``groups``, the images that each is about."""


class AnsweringModule(TokenWeightedModule, ABC):
    """A trainable model that answers, whose answers are scored in validation and test.

    Args:
        learning_rate: see ``TokenWeightedModule``, as for those up to ``min_learning_rate``.
        weight_decay: see there.
        betas: see there.
        warmup: see there.
        schedule: see there.
        min_learning_rate: see there.
        generate_in_validation: also generate answers in validation, and log their accuracy.
    """

    evaluation_methods: ClassVar[tuple[str, ...]] = ("evaluate",)

    def __init__(
        self,
        learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float],
        warmup: int | float,
        schedule: Schedule,
        min_learning_rate: float,
        generate_in_validation: bool,
    ) -> None:
        super().__init__(learning_rate, weight_decay, betas, warmup, schedule, min_learning_rate)
        self.generate_in_validation = generate_in_validation
        self._accuracies: dict[str, AnswerAccuracy] = {}
        self._losses: dict[str, Tensor] = {}

    @abstractmethod
    def evaluate(
        self, batch: Batch, with_loss: bool, with_answers: bool
    ) -> tuple[TokenLoss | None, list[str]]:
        """Return the loss of a batch's dialogues, and the answers generated to its prompts."""

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Generate answers in validation meanwhile, also if it does without them in training."""
        before, self.generate_in_validation = self.generate_in_validation, True
        try:
            yield
        finally:
            self.generate_in_validation = before

    def validation_step(self, batch: Batch, batch_idx: int) -> Answers:
        """Sum the loss up; generate and score answers."""
        loss, texts = self.evaluate(batch, True, self.generate_in_validation)
        self._add_loss("val/loss", loss)
        return self._score(batch, texts, "val/accuracy") if texts else {"predictions": []}

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Answers:
        """Generate and score answers; sum the loss up where the images are the samples' own."""
        sight = self._sight(dataloader_idx)
        loss, texts = self.evaluate(batch, sight == "real", True)
        self._add_loss("test/loss", loss)
        suffix = "" if sight == "real" else f"_{sight}"
        return self._score(batch, texts, f"test/accuracy{suffix}")

    def predict_step(self, batch: Batch, batch_idx: int) -> Answers:
        """Generate answers."""
        _, texts = self.evaluate(batch, False, True)
        return {"predictions": _predictions(batch, texts)}

    def on_validation_epoch_end(self) -> None:
        """Log loss and accuracy over all ranks."""
        self._log_figures()

    def on_test_epoch_end(self) -> None:
        """Log loss and accuracies over all ranks."""
        self._log_figures()

    def _score(self, batch: Batch, texts: list[str], metric: str) -> Answers:
        made = _predictions(batch, texts)
        accuracy = self._accuracies.setdefault(metric, AnswerAccuracy().to(self.device))
        accuracy.update(
            [prediction.generated for prediction in made],
            [prediction.answer or "" for prediction in made],
            [prediction.index for prediction in made],
        )
        scored = [prediction for prediction in made if prediction.answer is not None]
        return {
            "predictions": made,
            "scores": [float(bool(prediction.correct)) for prediction in scored],
            "index": [prediction.index for prediction in scored],
            "groups": [prediction.known_images for prediction in scored],
        }

    def _add_loss(self, name: str, loss: TokenLoss | None) -> None:
        if loss is not None:
            sums = torch.stack([loss.total.detach().double().cpu(), loss.num_tokens.double().cpu()])
            self._losses[name] = self._losses.get(name, 0) + sums

    def _log_figures(self) -> None:
        # They are the same on all ranks already; Lightning wants to be told to reduce them.
        how: dict[str, Any] = {"sync_dist": True, "add_dataloader_idx": False}
        for name, sums in self._losses.items():
            # Lightning's own mean weighs ranks by whole numbers of samples, cut off.
            total, tokens = self._mean_over_ranks(sums.float().to(self.device)).tolist()
            self.log(name, total / max(tokens, 1e-9), prog_bar=True, **how)
        self._losses = {}
        for name, accuracy in self._accuracies.items():
            self.log(name, accuracy.compute(), prog_bar=True, **how)
            self.log(f"{name}_samples", float(accuracy.num_items), **how)
        self._accuracies = {}

    def _sight(self, dataloader_idx: int) -> str:
        loaders: Any = self.trainer.test_dataloaders
        loader = loaders[dataloader_idx] if isinstance(loaders, list) else loaders
        return str(getattr(loader.dataset, "sight", "real" if not dataloader_idx else "other"))


def _predictions(batch: Batch, texts: list[str]) -> list[Prediction]:
    return [
        Prediction.of(reference, text)
        for reference, text in zip(batch.references, texts, strict=True)
        if not reference.repeated
    ]
