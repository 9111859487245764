"""Vectors of a locked encoder: the same bits whether they are computed once or at each step."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from lit_vlm.data.image_batches import PairBatch
from lit_vlm.encoders import VisionEncoder
from lit_vlm.encoders.pooling import image_vector
from lit_vlm.freezing import evaluating
from lit_vlm.sharding import is_sharded

_ROWS = 1 << 16  # exchanged at a time


@torch.no_grad()
def locked_vectors(
    encoder: VisionEncoder, images: Shaped[Tensor, "B 3 _ _"], chunk_size: int
) -> Float[Tensor, "B D"]:
    """Return the vectors of pictures from an encoder that does not train.

    Pictures pass ``chunk_size`` at a time, the last chunk filled up with black ones: kernels are
    chosen by the size of their input, and with them the last bits of what comes out.

    Args:
        encoder: is in evaluation mode meanwhile.
        images: the pictures; at least one.
        chunk_size: pictures that the encoder sees at once.
    """
    missing = -len(images) % chunk_size
    filled = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
    with evaluating(encoder):
        vectors = [image_vector(encoder(chunk)) for chunk in torch.split(filled, chunk_size)]
    return torch.cat(vectors)[: len(images)]


class LockedFeatures:
    """A table of pictures' vectors, by their place in the data set.

    Args:
        vectors: one row for each place; in main memory.
        states: what is known of each place: nothing (0), a vector (1), or that its picture cannot
            be read (2).

    Attributes:
        bad: places of pictures that cannot be read.
    """

    def __init__(self, vectors: Float[Tensor, "N D"], states: Shaped[Tensor, "N"]) -> None:
        self.vectors = vectors
        self.known = states == 1
        self.bad: list[int] = (states == 2).nonzero().flatten().tolist()

    @classmethod
    def compute(
        cls,
        encoder: VisionEncoder,
        batches: Iterable[PairBatch],
        chunk_size: int,
        device: torch.device,
    ) -> "LockedFeatures":
        """Encode all pictures once, each process its share, and give all of them to each.

        Args:
            encoder: the locked encoder.
            batches: this process's pictures; together, those of all processes are all.
            chunk_size: see ``locked_vectors``.
            device: the encoder's.
        """
        index, rows, bad = [], [], []
        for batch in batches:
            bad += [skipped.index for skipped in batch.skipped]
            if len(batch):
                index.append(batch.index.cpu())
                rows.append(locked_vectors(encoder, batch.images.to(device), chunk_size).cpu())
        places = torch.cat([*index, torch.tensor(bad, dtype=torch.long)])
        states = torch.ones(len(places), 1, dtype=torch.uint8)
        states[len(places) - len(bad) :] = 2
        vectors = torch.cat([*rows, _no_vectors(encoder, len(bad), chunk_size, device)])
        table, states = (_shared(places, one, device) for one in (vectors, states))
        return cls(table, states[:, 0])

    def __len__(self) -> int:
        """Return the number of pictures that have a vector."""
        return int(self.known.sum())

    @property
    def megabytes(self) -> float:
        """Memory that the table takes, in each process."""
        return self.vectors.nbytes / 1e6

    def rows(self, index: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """Return the vectors of pictures by their places, on the device of ``index``.

        Raises:
            ValueError: if a picture was not there when they were computed.
        """
        places = index.cpu()
        inside = places < len(self.known)
        found = inside & self.known[places.where(inside, torch.zeros_like(places))]
        if not bool(found.all()):
            raise ValueError(
                f"ContrastivePretraining: the vector of every training picture must have been "
                f"computed once, got none for picture {int(places[~found][0])} of the data set. "
                f"Set cache_features: false."
            )
        return self.vectors[places].to(index.device)


def can_be_computed_once(module: Any, datamodule: Any, needed: bool) -> bool:
    """Whether training pictures always have the same vectors, and the data module lists them.

    Args:
        module: has the ``plan`` by which its towers train.
        datamodule: the data; None if the trainer has loaders alone.
        needed: whether it must be so.

    Raises:
        ValueError: if it must, and is not.
    """
    obstacle = None
    if not module.plan.locks_image:
        obstacle = f"towers={module.plan.letters}"
    elif is_sharded(module):
        obstacle = "a model split between processes"
    elif not hasattr(datamodule, "pictures_loader"):
        obstacle = "data without pictures_loader()"
    elif getattr(datamodule, "augment", None) is not None:
        obstacle = "data that augments them"
    if obstacle and needed:
        raise ValueError(
            f"ContrastivePretraining: cache_features must go with a locked image tower that always "
            f"sees the same pictures, got {obstacle}. Leave it out."
        )
    return obstacle is None


def _no_vectors(
    encoder: VisionEncoder, count: int, chunk_size: int, device: torch.device
) -> Tensor:
    # Of the right width and type, which a process without a picture must know too.
    blank: Any = torch.zeros(1, 3, *encoder.image_size, dtype=torch.uint8, device=device)
    vector = locked_vectors(encoder, blank, chunk_size).cpu()
    return torch.zeros_like(vector).expand(count, -1)


def _shared(index: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Return a table that has the rows of all processes at their places, and zeros elsewhere."""
    together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    count = (index.max() + 1 if len(index) else torch.tensor(0)).to(device)
    if together:
        dist.all_reduce(count, op=dist.ReduceOp.MAX)
    table = rows.new_zeros(int(count), rows.shape[1])
    table[index] = rows
    if together:
        _exchange(table.view(torch.uint8), device)
    return table


def _exchange(rows: Tensor, device: torch.device) -> None:
    # Bytes that one process has and the others have zeros for: no bit is lost, even of a -0.
    for part in torch.split(rows, _ROWS):
        exchanged = part.to(device, copy=True)
        dist.all_reduce(exchanged, op=dist.ReduceOp.MAX)
        part.copy_(exchanged)
