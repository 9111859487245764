"""Figures of answers, as a table and as a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lit_vlm.metrics.base import AnswerMetric
from lit_vlm.rescoring import Figure
from lit_vlm.whole_file import whole_file

_DIGITS = 6  # more are rounding of single precision


def print_figures(found: Sequence[tuple[str, Sequence[Figure]]]) -> None:
    """Print figures with their intervals and sample sizes.

    Args:
        found: the options of metrics, and what these say.
    """
    table = Table(title="figures as published: times 100, with 95 % intervals")
    for column in ("source", "figure"):
        table.add_column(column, overflow="fold")
    for column in ("x 100", "95 %", "samples", "groups"):
        table.add_column(column, justify="right")
    for options, figures in found:
        for figure in figures:
            numbers = (f"{100 * figure.value:.2f}", _interval(figure), f"{figure.samples:,}")
            groups = f"{figure.sureness.groups:,}" if figure.sureness else ""
            name = f"{figure.name} ({options})" if options else figure.name
            table.add_row(figure.source, name, *numbers, groups)
    Console().print(table)


def _interval(figure: Figure) -> str:
    if figure.sureness is None:
        return ""
    found = figure.sureness.interval
    return "unknown" if found is None else f"{100 * found.low:.2f} to {100 * found.high:.2f}"


def write_figures(path: Path, found: Sequence[tuple[AnswerMetric, Sequence[Figure]]]) -> None:
    """Write figures as a JSON list, each with the metric that it is of.

    Args:
        path: the file.
        found: metrics, and what they say.
    """
    rows = [
        {"metric": metric.init_config, **_plain(figure)}
        for metric, figures in found
        for figure in figures
    ]
    with whole_file(path) as file:
        json.dump(rows, file, indent=2, ensure_ascii=False)
        file.write("\n")
    print(f"The figures are in {path}")


def _plain(figure: Figure) -> dict[str, Any]:
    sure = figure.sureness
    found = sure.interval if sure else None
    return {
        "source": figure.source,
        "figure": figure.name,
        "value": round(figure.value, _DIGITS),
        "low": round(found.low, _DIGITS) if found else None,
        "high": round(found.high, _DIGITS) if found else None,
        "interval": sure.method if sure and found else None,
        "samples": figure.samples,
        "groups": sure.groups if sure else None,
    }
