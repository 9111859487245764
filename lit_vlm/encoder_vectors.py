"""One vector per picture from every level of an encoder, with the picture's class."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed
from torchmetrics.utilities.distributed import gather_all_tensors

from lit_vlm.encoders.base import VisionEncoder, VisualFeatures

POOLED = "pooled"
"""The name of what an encoder pools, beside the names of its levels."""


@dataclass(frozen=True, slots=True)
class LabelledVectors:
    """What an encoder makes of this rank's share of a data set.

    Attributes:
        vectors: by level, one vector for each picture, on the CPU.
        labels: number of each picture's class; -1 for none.
        index: place of each in the data set.
    """

    vectors: dict[str, Float[Tensor, "N _"]]
    labels: Int[Tensor, "N"]
    index: Int[Tensor, "N"]

    def rows(self, device: torch.device) -> "LabelledRows":
        """Return which rows of what all ranks have are to be used."""
        index, labels = gather_rows(self.index, device), gather_rows(self.labels, device)
        order = torch.argsort(index, stable=True)
        once = torch.ones_like(order, dtype=torch.bool)
        once[1:] = index[order][1:] != index[order][:-1]
        order = order[once & (labels[order] >= 0)]
        return LabelledRows(order, labels[order])


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Pictures that have a class, each once, in the data's order.

    Attributes:
        place: row of each in what is gathered of all ranks.
        labels: number of each one's class.
    """

    place: Int[Tensor, "N"]
    labels: Int[Tensor, "N"]

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.labels)

    def take(self, vectors: Float[Tensor, "_ D"], device: torch.device) -> Float[Tensor, "N D"]:
        """Gather one level's vectors, and return the rows."""
        return gather_rows(vectors, device)[self.place]


def level_vectors(encoder: VisionEncoder, features: VisualFeatures) -> dict[str, Tensor]:
    """Return the mean of the patches of each level, and what the encoder pools, by name."""
    names = encoder.level_names
    if len(set(names)) < len(names):  # a layer that is read twice
        names = tuple(f"level_{place}" for place in range(len(names)))
    means = {name: v.mean(dim=1) for name, v in zip(names, features.levels, strict=True)}
    return means if features.pooled is None else {**means, POOLED: features.pooled}


def collect_vectors(
    see: Callable[[Tensor], dict[str, Tensor]], blank: Tensor, batches: Iterable[Any]
) -> LabelledVectors:
    """Return what is seen in a rank's share of a labelled data set.

    Args:
        see: turns images into vectors, by name.
        blank: images to try it on, which tell what there is where this rank has no picture.
        batches: ``LabelledBatch`` or the like, with each picture once over all ranks.
    """
    made = {name: [vectors[:0].float().cpu()] for name, vectors in see(blank).items()}
    nothing = torch.zeros(0, dtype=torch.long)
    labels, index = [nothing], [nothing]
    for batch in batches:
        if not len(batch.images):
            continue
        for name, vectors in see(batch.images.to(blank.device)).items():
            made[name].append(vectors.float().cpu())
        labels.append(batch.labels.long().cpu())
        index.append(batch.index.long().cpu())
    joined = {name: torch.cat(parts) for name, parts in made.items()}
    return LabelledVectors(joined, torch.cat(labels), torch.cat(index))


def gather_rows(rows: Tensor, device: torch.device) -> Tensor:
    """Return the rows of all ranks, one rank's behind the other's, on the CPU.

    Args:
        rows: this rank's, of which there may be none.
        device: where ranks can exchange tensors.
    """
    if rank_and_world()[1] == 1:
        return rows
    return torch.cat(gather_all_tensors(rows.to(device))).cpu()


def gather_lists(parts: list[list[Any]]) -> list[list[Any]]:
    """Join lists of lists of all ranks, place by place, in the order of ranks."""
    _, ranks = rank_and_world()
    if ranks == 1:
        return parts
    held: list[Any] = [None] * ranks
    distributed.all_gather_object(held, parts)
    return [[item for rank in held for item in rank[place]] for place in range(len(parts))]


def rank_and_world() -> tuple[int, int]:
    """Return this process's rank and the number of processes."""
    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
