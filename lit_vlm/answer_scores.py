"""The figures of an evaluation's answers: exact match over all, and each source's metrics."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

import torch

from lit_vlm.metrics import AnswerAccuracy, AnswerMetric
from lit_vlm.predictions import Prediction

OVERALL = "accuracy"


class AnswerScores:
    """Collect scores over the batches of an evaluation, and tell the figures at its end.

    All ranks must add batches of the same data in the same order, though not with the same samples:
    a metric is made for every source with the first batch, whether or not this has samples of it.

    Args:
        model: which answers; metrics take from it what they were not told.
        device: of what the metrics keep.
    """

    def __init__(self, model: object, device: torch.device) -> None:
        self.model = model
        self.device = device
        self._overall: dict[str, AnswerMetric] = {}
        self._by_source: dict[tuple[str, str, str], list[AnswerMetric]] = {}

    def add(
        self,
        predictions: Sequence[Prediction],
        stage: str,
        suffix: str,
        metrics: Mapping[str, Sequence[AnswerMetric]],
    ) -> None:
        """Add the answers of a batch.

        Args:
            predictions: what was answered.
            stage: ``val`` or ``test``.
            suffix: of the figures' names, e.g. ``_blank``.
            metrics: for each source that the data has, by name, what judges its answers.
        """
        overall = self._overall.setdefault(
            f"{stage}/{OVERALL}{suffix}", AnswerAccuracy().to(self.device)
        )
        _update(overall, predictions)
        for source, chosen in metrics.items():
            own = [made for made in predictions if made.source == source and made.accepted]
            key = (stage, source, suffix)
            if key not in self._by_source:
                self._by_source[key] = [self._fresh(metric) for metric in chosen]
            for metric in self._by_source[key]:
                _update(metric, own)

    def figures(self) -> Iterator[tuple[str, float, int]]:
        """Yield each figure's name, value and number of samples, on all ranks in one order."""
        for name, metric in self._overall.items():
            yield name, metric.figures()[metric.name], metric.num_items
        for (stage, source, suffix), metrics in self._by_source.items():
            place = f"{stage}/{source}/" if source else f"{stage}/"
            for metric in metrics:
                for name, value in metric.figures().items():
                    yield f"{place}{name}{suffix}", value, metric.num_items

    def _fresh(self, metric: AnswerMetric) -> AnswerMetric:
        copy = deepcopy(metric)
        copy.reset()
        copy.to(self.device)
        copy.follow(self.model)
        return copy


def _update(metric: AnswerMetric, predictions: Sequence[Prediction]) -> None:
    metric.update(
        [prediction.generated for prediction in predictions],
        [prediction.accepted or ("",) for prediction in predictions],
        [prediction.index for prediction in predictions],
        [prediction.question for prediction in predictions],
    )
