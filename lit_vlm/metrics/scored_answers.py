"""Metrics that judge samples one by one."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lit_vlm.metrics.base import Accepted, AnswerMetric, as_texts
from lit_vlm.metrics.gathering import NOBODY, each_once


class ScoredAnswers(AnswerMetric):
    """A mean over samples, each of which is judged by itself, on the rank that generated it.

    What is synchronised are pairs of a sample's place and its scores, not texts.

    Attributes:
        columns: names of the scores of a sample; none for one that is called as the metric.

    Example:
        >>> class Shortness(ScoredAnswers):
        ...     name = "shortness"
        ...
        ...     def score(self, generated, answers, question):
        ...         return (min(1.0, len(answers[0]) / len(generated)),)
        >>> metric = Shortness()
        >>> metric.update(["a red circle"], ["circle"], [0])
        >>> metric.compute()
        tensor(0.5000)
    """

    columns: ClassVar[tuple[str, ...]] = ()

    indices: Tensor
    scores: Tensor

    def __init__(self) -> None:
        super().__init__()
        # One row from the start: a rank without samples must have something to gather. The type is
        # named, since half precisions change the default, which counts to 256 only.
        self.add_state("indices", torch.tensor([NOBODY]), dist_reduce_fx="cat")
        empty = torch.zeros((1, len(self._columns)), dtype=torch.float32)
        self.add_state("scores", empty, dist_reduce_fx="cat")

    @abstractmethod
    def score(self, generated: str, answers: tuple[str, ...], question: str) -> tuple[float, ...]:
        """Return a sample's scores, one for each of ``columns``.

        Args:
            generated: the text that the model wrote.
            answers: all that it may be compared with, at least one.
            question: the last user turn; empty if it was not given.
        """

    def update(
        self,
        generated: Sequence[str],
        answers: Sequence[Accepted],
        indices: Sequence[int],
        questions: Sequence[str] | None = None,
    ) -> None:
        """Add samples; see the base class.

        Raises:
            ValueError: if the lists differ in length, or a sample has no answer.
        """
        asked = [""] * len(generated) if questions is None else questions
        rows = [
            self.score(text, self._accepted(expected), question)
            for text, expected, question in zip(generated, answers, asked, strict=True)
        ]
        scores = torch.tensor(rows, dtype=torch.float32, device=self.device)
        places = torch.tensor(indices, dtype=torch.long, device=self.device)
        if len(places) != len(rows):
            raise ValueError(
                f"{type(self).__name__}: indices must be as many as texts, got {len(places)} for "
                f"{len(rows)} texts."
            )
        self.indices = torch.cat([self.indices, places])
        self.scores = torch.cat([self.scores, scores.reshape(len(rows), len(self._columns))])

    def compute(self) -> Any:
        """Return what ``summary`` makes of the samples, each once."""
        index, rows = each_once(self.indices, self.scores)
        self.num_items = len(index)
        self.items = index.tolist()
        self.item_scores = {
            name: rows[:, place].tolist() for place, name in enumerate(self._columns)
        }
        return self.summary(rows)

    def summary(self, rows: Float[Tensor, "N K"]) -> Tensor | dict[str, Tensor]:
        """Return the figures of all samples: the means, unless a metric says otherwise."""
        means = rows.mean(dim=0)
        return dict(zip(self.columns, means, strict=True)) if self.columns else means[0]

    @property
    def _columns(self) -> tuple[str, ...]:
        return self.columns or (self.name,)

    def _accepted(self, answers: Accepted) -> tuple[str, ...]:
        texts = as_texts(answers)
        if not texts:
            raise ValueError(
                f"{type(self).__name__}: each sample must have an answer to compare with, got "
                f"none. Leave the sample out."
            )
        return texts
