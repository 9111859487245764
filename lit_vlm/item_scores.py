"""What a validation step says of each item, gathered over batches and ranks."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor


class ItemScore(NamedTuple):
    """An item's score (more is better), its weight, and labels that it may share with others."""

    score: float
    weight: float
    labels: tuple[Hashable, ...]


class ScoreKeeper(Callback):
    """Keep the scores that ``validation_step`` returns; each item counts once over all ranks.

    Attributes:
        items: after an evaluation, the items by id; empty if no step returned scores.

    Raises:
        ValueError: if a step's lists differ in length, or only some steps return scores.
    """

    def __init__(self) -> None:
        self.items: dict[Hashable, ItemScore] = {}
        self._silent = False

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch's scores."""
        if not isinstance(outputs, dict) or outputs.get("scores") is None:
            self._silent = True
            return
        # An item without an id is known by its place in what this rank sees.
        begin = len(self.items)
        for i, (name, item) in enumerate(read_scores(outputs)):
            self.items[(trainer.global_rank, begin + i) if name is None else name] = item

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the ranks' items together."""
        gathered: list[Any] = [(self.items, self._silent)]
        if trainer.world_size > 1:
            gathered = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, (self.items, self._silent))
        self.items = {name: item for items, _ in gathered for name, item in items.items()}
        if self.items and any(silent for _, silent in gathered):
            raise ValueError(
                f"{type(pl_module).__name__}: validation_step must return scores for every batch "
                f"or for none, got some batches without."
            )


def read_scores(outputs: dict[str, Any]) -> list[tuple[Hashable | None, ItemScore]]:
    """Return the ids and items that a step's ``scores`` and the lists beside them tell of.

    Raises:
        ValueError: if they differ in length.
    """
    scores = _listed(outputs["scores"])
    if not all(isinstance(score, int | float) for score in scores):
        kind = type(next(s for s in scores if not isinstance(s, int | float))).__name__
        raise ValueError(
            f"validation_step: scores must be one number per item, got a {kind} in them. Return a "
            f"tensor of one axis, or a list of numbers."
        )
    weights = _listed(outputs.get("weights", [1.0] * len(scores)))
    names = _listed(outputs.get("index", [None] * len(scores)))
    groups = _listed(outputs.get("groups", [()] * len(scores)))
    lengths = [len(column) for column in (scores, weights, names, groups)]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"validation_step: scores, weights, index and groups must have one value per item, "
            f"got {lengths} values."
        )
    return [
        (name, ItemScore(float(score), float(weight), _labels(group)))
        for name, score, weight, group in zip(names, scores, weights, groups, strict=True)
    ]


def _labels(group: Any) -> tuple[Hashable, ...]:
    return (group,) if isinstance(group, str) or not isinstance(group, Sequence) else tuple(group)


def _listed(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, Tensor) else list(column)
