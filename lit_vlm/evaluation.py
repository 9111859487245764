"""Evaluation by generating answers, with the loss beside them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from lit_vlm.answer_scores import AnswerScores
from lit_vlm.data.collation import Batch
from lit_vlm.language_models.base import TokenLoss
from lit_vlm.metrics import AnswerMetric
from lit_vlm.optim import Schedule
from lit_vlm.predictions import Prediction
from lit_vlm.training import TokenWeightedModule

Answers = dict[str, list[Any]]
"""What an evaluation step returns, for callbacks: its ``predictions`` and, where these are scored,
``scores`` (1 for a right answer, 0 for a wrong one), the samples' ``index`` in the data and
``groups``, the images that each is about."""


class AnsweringModule(TokenWeightedModule, ABC):
    """A trainable model that answers, whose answers are scored in validation and test.

    The share of exact matches over all samples is logged as ``val/accuracy`` and ``test/accuracy``;
    what the data module's ``metrics_of(source)`` returns besides, as ``test/SOURCE/vqa_accuracy``
    and the like, or ``test/vqa_accuracy`` if sources have no names.

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
        self._scores: AnswerScores | None = None
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
        loader = self._loader("val", 0)
        return self._score(batch, texts, "val", loader) if texts else {"predictions": []}

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Answers:
        """Generate and score answers; sum the loss up where the images are the samples' own."""
        loader = self._loader("test", dataloader_idx)
        sight = _sight(loader, "other" if dataloader_idx else "real")
        loss, texts = self.evaluate(batch, sight == "real", True)
        self._add_loss("test/loss", loss)
        suffix = "" if sight == "real" else f"_{sight}"
        return self._score(batch, texts, "test", loader, suffix)

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

    def _score(
        self, batch: Batch, texts: list[str], stage: str, loader: Any, suffix: str = ""
    ) -> Answers:
        made = _predictions(batch, texts)
        if self._scores is None:
            self._scores = AnswerScores(self, self.device)
        self._scores.add(made, stage, suffix, self._metrics(loader))
        scored = [prediction for prediction in made if prediction.correct is not None]
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
            if tokens:  # samples that list answers and end with a question have none
                self.log(name, total / tokens, prog_bar=True, **how)
        self._losses = {}
        for name, value, samples in self._scores.figures() if self._scores else ():
            self.log(name, value, prog_bar="/accuracy" in name, **how)
            self.log(f"{name}_samples", float(samples), **how)
        self._scores = None

    def _metrics(self, loader: Any) -> dict[str, list[AnswerMetric]]:
        """Return what the data module chose for each source that a loader reads."""
        names = getattr(getattr(loader, "dataset", None), "names", None) or [""]
        chosen = getattr(getattr(self._trainer, "datamodule", None), "metrics_of", None)
        return {name: chosen(name) for name in names} if chosen else {}

    def _loader(self, stage: str, place: int) -> Any:
        trainer = self._trainer
        loaders: Any = getattr(trainer, f"{stage}_dataloaders") if trainer is not None else None
        return loaders[place] if isinstance(loaders, list) else loaders


def _sight(loader: Any, otherwise: str) -> str:
    return str(getattr(getattr(loader, "dataset", None), "sight", otherwise))


def _predictions(batch: Batch, texts: list[str]) -> list[Prediction]:
    return [
        Prediction.of(reference, text)
        for reference, text in zip(batch.references, texts, strict=True)
        if not reference.repeated
    ]
