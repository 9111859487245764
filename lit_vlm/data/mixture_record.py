"""In what proportions sources are mixed, as primitives and as a table."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from lit_vlm.data.mixture import Mixture
from lit_vlm.data.mixture_order import MixtureOrder
from lit_vlm.data.sampling import TrainingOrder


def mixture_record(
    stage: str | None,
    mixture: Mixture,
    order: TrainingOrder | MixtureOrder,
    samples: Sequence[int],
) -> dict[str, Any]:
    """Return which sources a stage mixes, and how, as primitives.

    Args:
        stage: its name; None for a run without stages.
        mixture: what is asked for.
        order: what it becomes.
        samples: number of samples of each source.
    """
    weights: Sequence[int | float | None] = mixture.weights or [None] * len(samples)
    if isinstance(order, MixtureOrder):
        rows, taken = [len(part) for part in order.sources.values()], order.advance
    else:
        rows, taken = list(samples), sum(samples)
    sources = []
    shares = mixture.shares(rows)
    for place, name in enumerate(mixture.names):
        in_pass = shares[place] * taken
        sources.append(
            {
                "name": name,
                "samples": samples[place],
                "rows": rows[place],
                "weight": weights[place],
                "share": float(shares[place]),
                "rows_per_pass": float(in_pass),
                "passes_per_pass": float(in_pass / rows[place]),
            }
        )
    return {
        "stage": stage,
        "temperature": mixture.temperature,
        "rows_per_pass": taken,
        "sources": sources,
    }


def mixture_table(record: dict[str, Any]) -> Table:
    """Return a record as a table."""
    title = f"sources: {record['rows_per_pass']:,} rows a pass"
    if record["stage"] is not None:
        title = f"stage {record['stage']}, {title}"
    if record["temperature"] is not None:
        title += f", temperature {record['temperature']:g}"
    table = Table(title=title)
    for column in ("source", "samples", "weight", "share", "rows a pass", "passes a pass"):
        table.add_column(column, justify="left" if column == "source" else "right")
    for source in record["sources"]:
        table.add_row(
            source["name"],
            f"{source['samples']:,}",
            "-" if source["weight"] is None else f"{source['weight']:g}",
            f"{source['share']:.2%}",
            f"{source['rows_per_pass']:,.1f}".removesuffix(".0"),
            f"{source['passes_per_pass']:.3g}",
        )
    return table
