"""Batches of shards that are read from beginning to end, on worker processes."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from torch.utils.data import IterableDataset, get_worker_info

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.image_batches import PairBatch, SkippedPicture
from lit_vlm.data.pair_stream import MakeBatch, StreamedPair
from lit_vlm.data.shard_pairs import ReadPair, Shards


class Share(NamedTuple):
    """What one rank reads of an epoch.

    Attributes:
        batch_size: pairs of a batch.
        rank: this rank.
        world_size: number of ranks.
        length: batches of an epoch.
        epoch: the epoch.
        position: batches of it to pass over.
    """

    batch_size: int
    rank: int
    world_size: int
    length: int
    epoch: int
    position: int


class ShardBatches(IterableDataset[PairBatch]):
    """Make every n-th batch of a share, on the worker process that it is read in.

    Args:
        shards: where the pairs are.
        make_batch: makes a batch of pairs.
        share: which batches.
        block: samples to shuffle together; None to read in order, each sample once.
        seed: chooses draws and orders.
    """

    def __init__(
        self, shards: Shards, make_batch: MakeBatch, share: Share, block: int | None, seed: int
    ) -> None:
        super().__init__()
        self.shards = shards
        self.make_batch = make_batch
        self.share = share
        self.block = block
        self.seed = seed

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield this worker's batches."""
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        batches = self._ordered if self.block is None else self._drawn
        for pairs in batches(self.share.position + number, workers):
            yield self._batch(pairs)

    def _drawn(self, first: int, workers: int) -> Iterator[list[ReadPair]]:
        share, block = self.share, self.block
        assert block is not None
        # Each worker goes on from epoch to epoch with a sequence of its own, which would else
        # always end in the middle of a shard, and read the ends of shards less often.
        begin = share.epoch * share.length + first
        key = [self.seed, share.rank, begin % workers, workers]
        pairs = self.shards.drawn(key, block, begin // workers * share.batch_size)
        for _ in range(first, share.length, workers):
            yield list(islice(pairs, share.batch_size))

    def _ordered(self, first: int, workers: int) -> Iterator[list[ReadPair]]:
        parts = [self._places(batch) for batch in range(first, self.share.length, workers)]
        pairs = self.shards.in_order(place for part in parts for place in part)
        for part in parts:
            yield list(islice(pairs, len(part)))

    def _places(self, batch: int) -> list[int]:
        """Return the places of a batch: of all ranks' batch, cut from the order, this rank's."""
        share = self.share
        step = share.batch_size * share.world_size
        begin = batch * step
        end = min(begin + step, sum(self.shards.counts))
        each = -(-(end - begin) // share.world_size)
        first = begin + share.rank * each
        # Ranks left without a sample repeat the last one, so that all make as many steps.
        return [min(place, end - 1) for place in range(first, first + each)]

    def _batch(self, pairs: list[ReadPair]) -> PairBatch:
        good = [pair for pair in pairs if isinstance(pair, StreamedPair)]
        bad = [pair for pair in pairs if isinstance(pair, SkippedPicture)]
        if not good:
            raise BadSampleError(
                f"ResampledWebDataset: a batch must hold a usable sample, got none of "
                f"{len(pairs)}: {bad[0].reason}"
            )
        good += [good[place % len(good)] for place in range(len(bad))]  # alike on all ranks
        batch = self.make_batch(good, self.share.epoch)
        return replace(batch, skipped=(*batch.skipped, *bad)) if bad else batch
