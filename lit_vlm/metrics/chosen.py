"""Which metrics judge which source's answers."""

from collections.abc import Iterable, Mapping, Sequence

from lit_vlm.errors import nearest
from lit_vlm.metrics.base import AnswerMetric

Metrics = AnswerMetric | Sequence[AnswerMetric] | None
"""One metric, several, or none."""

NamedMetrics = Metrics | Mapping[str, AnswerMetric | Sequence[AnswerMetric]]
"""The same for all sources, or for each by its name."""

_TAKEN = ("accuracy", "loss")


def choose_metrics(chosen: NamedMetrics, names: Iterable[str]) -> dict[str, list[AnswerMetric]]:
    """Return the metrics of each source by its name; under an empty name, those of all others.

    Args:
        chosen: the metrics.
        names: of the sources that there are; none if they have none.

    Raises:
        ValueError: if a name is none of a source, or two metrics of a source have one name.
    """
    named = chosen if isinstance(chosen, Mapping) else {"": chosen}
    known = set(names)
    for source in named:
        if source and source not in known:
            hint = nearest(source, known) or " Name sources ({NAME: SOURCE})."
            raise ValueError(
                f"metrics: must be for sources by the names they have, got {source!r}.{hint} To do "
                f"without: --data.metrics null."
            )
    found = {source: _as_list(metrics) for source, metrics in named.items()}
    for metrics in found.values():
        _check_names(metrics, taken=() if known else _TAKEN)
    return found


def _as_list(metrics: Metrics) -> list[AnswerMetric]:
    if metrics is None:
        return []
    return [metrics] if isinstance(metrics, AnswerMetric) else list(metrics)


def _check_names(metrics: list[AnswerMetric], taken: Sequence[str]) -> None:
    seen = set(taken)
    for metric in metrics:
        if metric.name in seen:
            raise ValueError(
                f"metrics: must be logged under different names, got another "
                f"{type(metric).__name__}, which is logged as {metric.name!r}. Leave it out, and "
                f"try other options on the answers that a test writes: lit-vlm score."
            )
        seen.add(metric.name)
