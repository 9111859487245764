"""Which of a run's checkpoints to keep, and why."""

import math
import os
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lit_vlm.checkpoints import is_sharded_checkpoint, read_any_checkpoint
from lit_vlm.intervals import Interval, fewest_clusters, find_clusters, paired_bootstrap
from lit_vlm.item_scores import ItemScore


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint and how it did.

    Attributes:
        name: ``last``, ``best`` or ``average``.
        path: the file, relative to the run folder.
        step: optimizer step of its state; None if the file does not say.
        epoch: epoch of its state.
        items: its items' scores by id; empty if it was not scored, or not item by item.
        figure: the monitored figure on the same data; None if it was not scored.
        averaged_steps: the steps whose weights it is the average of.
    """

    name: str
    path: str
    step: int | None
    epoch: int | None
    items: dict[Hashable, ItemScore] = field(default_factory=dict)
    figure: float | None = None
    averaged_steps: tuple[int, ...] = ()

    @property
    def score(self) -> float | None:
        """The weighted mean of the items' scores, or the monitored figure without any."""
        if not self.items:
            return self.figure
        total = sum(item.weight for item in self.items.values())
        return sum(item.score for item in self.items.values()) / total


@dataclass(frozen=True, slots=True)
class Comparison:
    """A challenger against what would be kept without it.

    Attributes:
        challenger: the candidate that must prove itself.
        holder: the candidate that is kept otherwise.
        interval: of the challenger's score minus the holder's; None if it cannot be told.
        winner: the name of either.
        reason: in words.
    """

    challenger: str
    holder: str
    interval: Interval | None
    winner: str
    reason: str


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are computed; see ``paired_bootstrap``."""

    confidence: float
    resamples: int
    seed: int

    def interval(self, one: Candidate, other: Candidate) -> Interval | None:
        """Return the interval of a difference, or None if there are too few clusters."""
        pairs = [(one.items[name], other.items[name]) for name in one.items]
        clusters = find_clusters([item.labels for item, _ in pairs])
        if len(np.unique(clusters)) < fewest_clusters(self.confidence):
            return None
        differences = np.array([mine.score - its.score for mine, its in pairs])
        weights = np.array([mine.weight for mine, _ in pairs])
        return paired_bootstrap(
            differences, weights, clusters, self.confidence, self.resamples, self.seed
        )


def read_candidate(name: str, file: Path, root: Path) -> Candidate:
    """Return a checkpoint, not scored yet.

    Args:
        name: what to call it.
        file: the checkpoint; a folder if it is sharded.
        root: the run folder.
    """
    whole = file.is_file() or is_sharded_checkpoint(file)
    content = read_any_checkpoint(file) if whole else {}
    path = os.path.relpath(file, root)
    return Candidate(name, path, content.get("global_step"), content.get("epoch"))


def count_groups(items: dict[Hashable, ItemScore]) -> int:
    """Return the number of groups of items that share no label."""
    return len(np.unique(find_clusters([item.labels for item in items.values()])))


def compare(challenger: Candidate, holder: Candidate, how: Bootstrap) -> Comparison:
    """Let the holder win unless the challenger's score is higher beyond doubt.

    Raises:
        ValueError: if they were scored on different items, or the items weigh nothing.
    """
    made = (challenger.name, holder.name)
    wild = [c for c in (challenger, holder) if not math.isfinite(c.score or 0.0)]
    if wild:
        winner = challenger if wild == [holder] else holder
        named = " and ".join(candidate.name for candidate in wild)
        return Comparison(*made, None, winner.name, f"scores of {named} are not finite")
    if not challenger.items:
        reason = (
            f"no interval, since validation_step returns no scores of items; an unproven "
            f"difference keeps {holder.name}"
        )
        return Comparison(*made, None, holder.name, reason)
    _check_paired(challenger, holder)
    interval = how.interval(challenger, holder)
    if interval is None:
        reason = (
            f"no interval, since {count_groups(holder.items)} groups of items are too few to tell "
            f"a difference from chance ({fewest_clusters(how.confidence)} are needed); an unproven "
            f"difference keeps {holder.name}"
        )
        return Comparison(*made, None, holder.name, reason)
    return Comparison(*made, interval, *_judge(*made, interval, how.confidence))


def decide(candidates: dict[str, Candidate], how: Bootstrap) -> list[Comparison]:
    """Compare best with last, then the average with the winner; the last winner is the choice."""
    comparisons: list[Comparison] = []
    winner = candidates["last"]
    for name in ("best", "average"):
        if name in candidates:
            comparisons.append(compare(candidates[name], winner, how))
            winner = candidates[comparisons[-1].winner]
    return comparisons


def _judge(challenger: str, holder: str, found: Interval, confidence: float) -> tuple[str, str]:
    shown = f"{challenger} - {holder} is {found.value:+.4g}, and its {confidence:.0%} interval, "
    shown += f"{found.low:+.4g} to {found.high:+.4g},"
    if found.low > 0:
        return challenger, f"{shown} excludes zero in favour of {challenger}"
    if found.high < 0:
        return holder, f"{shown} excludes zero in favour of {holder}"
    return holder, f"{shown} includes zero: a tie, which keeps {holder}"


def _check_paired(one: Candidate, other: Candidate) -> None:
    if one.items.keys() != other.items.keys():
        shared = len(one.items.keys() & other.items.keys())
        raise ValueError(
            f"CheckpointSelection: {one.name} and {other.name} must be scored on the same items, "
            f"got {len(one.items)} and {len(other.items)}, of which {shared} are the same. Return "
            f"a stable index from validation_step."
        )
    weights = [[c.items[name].weight for name in one.items] for c in (one, other)]
    if weights[0] != weights[1] or min(weights[0]) < 0 or not sum(weights[0]) > 0:
        raise ValueError(
            "CheckpointSelection: weights of items must be the same for all checkpoints, not "
            "negative, and not all zero. Return weights that belong to the data."
        )
