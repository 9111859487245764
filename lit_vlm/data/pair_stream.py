"""The contract of sources that can only be read one after another, such as shards."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from lit_vlm.configurable import Configurable
from lit_vlm.data.image_batches import PairBatch


@dataclass(frozen=True, slots=True)
class StreamedPair:
    """A picture with its captions, as it was read from a stream.

    Attributes:
        index: number of the picture in the stream; the same in each epoch, on every rank and
            worker, so that augmentation and captions are chosen by (seed, epoch, index).
        picture: the picture's file; it is decoded where the batch is made.
        captions: at least one.
        name: what a message calls it, e.g. ``train-003.tar: 000123``.
    """

    index: int
    picture: bytes
    captions: tuple[str, ...]
    name: str


@runtime_checkable
class MakeBatch(Protocol):
    """Makes a batch of some pairs: decodes, augments and resizes pictures, encodes captions.

    It can be pickled, so that worker processes may call it.
    """

    def __call__(self, pairs: Sequence[StreamedPair], epoch: int) -> PairBatch:
        """Return the batch.

        Raises:
            BadSampleError: if a picture cannot be read and the stream's ``on_bad_image`` is
                ``error``; with ``skip`` another pair of the batch stands in for it.
        """


@runtime_checkable
class PairLoader(Protocol):
    """Batches of a stream on one rank; each iteration is the next epoch."""

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield the batches of an epoch; those of the first from a position on.

        The next iteration is the next epoch, even if this one was not read to its very end.
        """

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, the same on all ranks."""


class PairStream(Configurable, ABC):
    """Pictures with captions that are read one after another.

    Args:
        on_bad_image: ``error`` stops at a picture that cannot be read; ``skip`` puts another in
            its place, and says which.
        max_skipped: most pictures that may be skipped before the run stops.

    Raises:
        ValueError: if an argument is not one of those.
    """

    def __init__(
        self, on_bad_image: Literal["error", "skip"] = "error", max_skipped: int = 100
    ) -> None:
        name = type(self).__name__
        if on_bad_image not in ("error", "skip"):
            raise ValueError(
                f"{name}: on_bad_image must be 'error' or 'skip', got {on_bad_image!r}."
            )
        if max_skipped < 0:
            raise ValueError(f"{name}: max_skipped must not be negative, got {max_skipped}.")
        self.on_bad_image = on_bad_image
        self.max_skipped = max_skipped

    @abstractmethod
    def prepare(self) -> None:
        """Find the data; called once, before anything else, on each rank.

        Raises:
            OSError: if a file is missing.
            BadSampleError: if the stream cannot be used.
        """

    @abstractmethod
    def texts(self) -> Iterator[str]:
        """Yield every caption once, to train a tokenizer on."""

    @abstractmethod
    def loader(
        self,
        make_batch: MakeBatch,
        batch_size: int,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        training: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        epoch: int = 0,
        position: int = 0,
    ) -> PairLoader:
        """Return the batches of one rank.

        All ranks make the same number of batches, and the batches of a step are equally large on
        all ranks; pairs that are repeated to make it so keep their ``index``.

        Args:
            make_batch: makes a batch; called with the epoch that is being read.
            batch_size: pairs of a batch on this rank.
            num_workers: processes that read and decode beside this one.
            rank: this rank.
            world_size: number of ranks.
            training: shuffled by (seed, epoch); else in order, each pair once over all ranks
                (but for those repeated at the end).
            drop_last: leave out what is left over when whole batches are made.
            seed: chooses all orders.
            epoch: the first iteration's.
            position: batches of that epoch, on this rank, that an earlier run has consumed; they
                are passed over, and no other pair is lost or repeated.
        """
