"""Answers that were written down, scored by metrics, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_vlm.answer_rows import AnswerRow
from lit_vlm.mean_intervals import MeanInterval, mean_interval
from lit_vlm.metrics.base import AnswerMetric


@dataclass(frozen=True, slots=True)
class Figure:
    """What a metric says of a source's answers.

    Attributes:
        source: the source's name; empty if there is none.
        name: the figure's.
        value: the figure.
        sureness: its interval; None if the figure is no mean over samples.
        samples: how many answers it is of.
    """

    source: str
    name: str
    value: float
    sureness: MeanInterval | None
    samples: int


def rescore(rows: Sequence[AnswerRow], metric: AnswerMetric, path: Path) -> list[Figure]:
    """Return a metric's figures for each source of some answers.

    Args:
        rows: answers, which all have something to compare with.
        metric: which starts anew for each source.
        path: the file of the rows, for messages.

    Raises:
        ValueError: if the metric cannot judge an answer; the message has its line.
    """
    found = []
    sources = list(dict.fromkeys(row.source for row in rows))
    for source in sources:
        own = [row for row in rows if row.source == source]
        try:
            figures = _judged(own, metric, path)
        except ValueError as error:
            if len(sources) == 1:
                raise
            raise ValueError(
                f"{error} To score one of {', '.join(filter(None, sources))} alone: --source NAME."
            ) from error
        for name, value in figures.items():
            scores = metric.item_scores.get(name)
            labels = [own[place].images for place in metric.items]
            sureness = mean_interval(scores, labels, metric.is_share) if scores else None
            found.append(Figure(source, name, value, sureness, metric.num_items))
    return found


def _judged(rows: Sequence[AnswerRow], metric: AnswerMetric, path: Path) -> dict[str, float]:
    metric.reset()
    try:
        _update(metric, rows)
    except ValueError:
        for row in rows:
            _update_named(metric, row, path)
        raise
    return metric.figures()


def _update_named(metric: AnswerMetric, row: AnswerRow, path: Path) -> None:
    try:
        _update(metric, [row])
    except ValueError as error:
        raise ValueError(f"{path}:{row.line}: {error}") from error


def _update(metric: AnswerMetric, rows: Sequence[AnswerRow]) -> None:
    metric.update(
        [row.generated for row in rows],
        [row.answers for row in rows],
        list(range(len(rows))),
        [row.question for row in rows],
    )
