"""What the features of an encoder are worth: figures, a table, a file."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.table import Table

from lit_vlm.intervals import Interval
from lit_vlm.proportions import wilson_interval
from lit_vlm.whole_file import whole_file

PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Score:
    """How many pictures one way of classifying found right.

    Attributes:
        method: ``knn_20``, ``probe``, ``zero_shot_top1`` and the like.
        level: the level of the encoder whose vectors were classified; empty for zero-shot.
        dim: the vectors' width.
        correct: pictures that were classified right.
        samples: of how many.
        learning_rate: the one that a probe was trained with.
        weight_decay: the same.
    """

    method: str
    level: str
    dim: int
    correct: int
    samples: int
    learning_rate: float | None = None
    weight_decay: float | None = None

    @property
    def interval(self) -> Interval:
        """The share of right ones, and the interval that its true value lies in (95%)."""
        return wilson_interval(self.correct, self.samples)


@dataclass(frozen=True, slots=True)
class EncoderReport:
    """Scores of all levels of an encoder.

    Attributes:
        split: part of the data that was classified.
        train_samples: pictures with a class that k-NN and probes learnt from.
        headline: the level that stands for the encoder.
        scores: in the order of levels; zero-shot last.
    """

    split: str
    train_samples: int
    headline: str
    scores: Sequence[Score]

    def figures(self) -> dict[str, float]:
        """Return what is logged: each accuracy, and those of the encoder's own vector in short.

        ``knn`` is the headline's, of the most neighbours asked for, ``probe`` is likewise.
        """
        figures: dict[str, float] = {}
        for score in self.scores:
            share = score.correct / score.samples
            figures["_".join(filter(None, (score.method, score.level)))] = share
            if score.level == self.headline:
                figures[score.method.split("_")[0]] = share
        if self.scores:
            figures["labelled_samples"] = float(self.scores[0].samples)
        return figures

    def table(self) -> Table:
        """Return the table that is printed."""
        by_place = {(s.level, s.method): s for s in self.scores if s.level}
        methods = list(dict.fromkeys(method for _, method in by_place))
        table = Table(title=self._title())
        table.add_column("level")
        table.add_column("dim", justify="right")
        for method in methods:
            table.add_column(_heading(method), justify="right")
        for level in dict.fromkeys(level for level, _ in by_place):
            cells = [_cell(by_place[level, method]) for method in methods]
            table.add_row(level, str(by_place[level, methods[0]].dim), *cells)
        others = [f"{_heading(s.method)} {_cell(s)}" for s in self.scores if not s.level]
        table.caption = "\n".join(others) or None
        return table

    def write(self, path: Path) -> None:
        """Write a .csv file, or else JSON; it appears whole or not at all."""
        with whole_file(path) as file:
            if path.suffix == ".csv":
                writer = csv.DictWriter(file, [*_columns(), "accuracy", "low", "high"])
                writer.writeheader()
                writer.writerows(map(_record, self.scores))
            else:
                rest = {"split": self.split, "train_samples": self.train_samples}
                content = {**rest, "confidence": 0.95, "scores": list(map(_record, self.scores))}
                json.dump(content, file, indent=2)
                file.write("\n")

    def _title(self) -> str:
        samples = self.scores[0].samples if self.scores else 0
        return (
            f"what the features are worth: accuracy in % on {samples:,} {self.split} pictures "
            f"(95% interval), learnt from {self.train_samples:,}"
        )


def _columns() -> list[str]:
    return [field.name for field in fields(Score)]


def _record(score: Score) -> dict[str, object]:
    interval = score.interval
    ends = {"accuracy": interval.value, "low": interval.low, "high": interval.high}
    return {**asdict(score), **ends}


def _heading(method: str) -> str:
    if method == PROBE:
        return "linear probe"
    kind, _, which = method.rpartition("_")
    return f"{which}-NN" if kind == "knn" else f"zero-shot {which.replace('top', 'top-')}"


def _cell(score: Score) -> str:
    low, high = score.interval.low, score.interval.high
    return f"{100 * score.interval.value:.1f} ({100 * low:.1f}-{100 * high:.1f})"
