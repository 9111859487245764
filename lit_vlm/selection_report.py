"""A choice between checkpoints, as a file and as a table."""

import json
import math
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lit_vlm.selection import Candidate, Comparison, count_groups

RECORD = "checkpoints.json"


def selection_record(
    candidates: dict[str, Candidate], comparisons: list[Comparison], missing: list[str]
) -> dict[str, Any]:
    """Return the choice, its reasons and what they rest on, as primitives.

    Args:
        candidates: by name.
        comparisons: the last winner is the choice.
        missing: why other checkpoints are no candidates.
    """
    choice = comparisons[-1].winner if comparisons else "last"
    reasons = [*missing, *(comparison.reason for comparison in comparisons)]
    items = candidates["last"].items
    return {
        "choice": choice,
        "reason": "; ".join(reasons),
        "items": len(items),
        "groups": count_groups(items),
        "candidates": {name: _of_candidate(c) for name, c in reversed(candidates.items())},
        "differences": [_of_comparison(comparison) for comparison in comparisons],
    }


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON; the file appears whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def print_selection(record: dict[str, Any]) -> None:
    """Print the candidates' scores, the intervals of their differences, and the choice."""
    table = Table(title=f"last or best? scores on {record['split']}, which chose neither")
    for column in ("checkpoint", "step", "epoch", "score", "items", "groups"):
        table.add_column(column, justify="left" if column == "checkpoint" else "right")
    sizes = [f"{record[name]:,}" if record[name] else "-" for name in ("items", "groups")]
    for name, candidate in record["candidates"].items():
        figures = [_shown(candidate[key]) for key in ("step", "epoch", "score")]
        table.add_row(name, *figures, *sizes)
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"selected: {record['choice']}, since {record['reason']}", highlight=False)


def _shown(value: int | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _of_candidate(candidate: Candidate) -> dict[str, Any]:
    record: dict[str, Any] = {
        "path": candidate.path,
        "step": candidate.step,
        "epoch": candidate.epoch,
        "score": _finite(candidate.score),
        "monitored": _finite(candidate.figure),
    }
    if candidate.averaged_steps:
        record["averaged_steps"] = list(candidate.averaged_steps)
    return record


def _of_comparison(comparison: Comparison) -> dict[str, Any]:
    found = comparison.interval
    return {
        "of": comparison.challenger,
        "minus": comparison.holder,
        "value": found and found.value,
        "low": found and found.low,
        "high": found and found.high,
        "winner": comparison.winner,
        "reason": comparison.reason,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
