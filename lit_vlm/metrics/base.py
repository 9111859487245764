"""What every metric of generated answers has."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torchmetrics import Metric

from lit_vlm.configurable import Configurable
from lit_vlm.metrics.gathering import gather_padded

Accepted = str | Sequence[str]
"""What an answer may be compared with: one text, or what several people said."""


class AnswerMetric(Configurable, Metric, ABC):
    """Judge generated texts by the answers in the data, each sample once over all ranks.

    A metric of your own derives from ``ScoredAnswers`` if samples can be judged one by one. One
    that cannot implements ``update`` and ``compute``, which must keep tensors only: texts are not
    synchronised.

    Attributes:
        name: how its figure is logged.
        is_share: whether scores lie between 0 and 1.
        num_items: after ``compute``, how many samples there are.
        items: after ``compute``, their places in the data set.
        item_scores: after ``compute``, by the figures' names, the scores of the samples whose mean
            the figure is. Figures that are no means are missing.
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = True

    name: ClassVar[str]
    is_share: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__(dist_sync_fn=gather_padded)
        self.num_items = 0
        self.items: list[int] = []
        self.item_scores: dict[str, list[float]] = {}

    @abstractmethod
    def update(
        self,
        generated: Sequence[str],
        answers: Sequence[Accepted],
        indices: Sequence[int],
        questions: Sequence[str] | None = None,
    ) -> None:
        """Add samples.

        Args:
            generated: texts that the model wrote.
            answers: for each, the text in the data, or all that people answered.
            indices: each sample's place in the data set, not negative.
            questions: for each, the last user turn; some metrics read options from it.
        """

    @abstractmethod
    def compute(self) -> Any:
        """Return the figure as a tensor, or several by their names; nan without samples."""

    def follow(self, model: object) -> None:  # noqa: B027  # most metrics ask the model nothing
        """Take from the model that answers what the metric was not told, if it needs anything."""

    def figures(self) -> dict[str, float]:
        """Return what ``compute`` returns as numbers by name."""
        computed = self.compute()
        named = computed if isinstance(computed, dict) else {self.name: computed}
        return {name: float(value) for name, value in named.items()}


def as_texts(answers: Accepted) -> tuple[str, ...]:
    """Return what an answer may be compared with as several texts."""
    return (answers,) if isinstance(answers, str) else tuple(answers)
