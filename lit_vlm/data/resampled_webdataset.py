"""WebDataset shards that are too many, or too far away, to be indexed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.image_batches import PairBatch
from lit_vlm.data.pair_stream import MakeBatch, PairLoader, PairStream, StreamedPair
from lit_vlm.data.shard_batches import ShardBatches, Share
from lit_vlm.data.shard_names import absolute, find_shards
from lit_vlm.data.shard_pairs import Shards
from lit_vlm.data.shard_reading import count_samples
from lit_vlm.data.shard_samples import sample_form


class ResampledWebDataset(PairStream):
    """Read WebDataset shards from beginning to end, in training drawn at random with replacement.

    Each worker of each rank draws shards of its own for ever and reads them whole, so it does not
    matter how many shards there are, nor of what size; over a nominal epoch some samples come
    twice and others not at all. For shards on disk ``WebDatasetPairs`` takes each sample exactly
    once an epoch.

    Draws and orders follow from the seed, the rank and the worker, by arithmetic on the numbers
    of samples: a run resumes within an epoch without reading what it passes over, but for the
    beginning of one shard for each worker. With another number of workers it goes on with other
    draws. Outside training the shards are read in order, each sample once.

    Args:
        shards: tar files, compressed or not, or addresses (``https:``, ``s3:``, ...) and commands
            (``pipe:aws s3 cp ... -``), which webdataset opens; braces are expanded.
        epoch_size: samples of a nominal epoch, over all ranks; None for as many as there are.
        block_size: samples that a worker holds in memory, undecoded, and shuffles.
        counts: JSON file of the samples of each shard, ``{NAME: NUMBER}``; made if it does not
            exist. None to read all shards through at the beginning.
        image_endings: endings that pictures may have; the first that a sample has is taken.
        caption_endings: likewise for captions: of texts, in which each line is a caption, or JSON.
        caption_field: key of the caption, or of a list of captions, in a JSON object.
        on_bad_image: ``error`` stops at a sample that lacks a picture or a caption, or whose
            picture cannot be read; ``skip`` puts another in its place, and says which. A shard
            that breaks off always stops the run.
        max_skipped: most samples that may be skipped before the run stops.

    Raises:
        ValueError: if an argument is not one of those.
        ImportError: on ``prepare``, if the package webdataset is missing.
        FileNotFoundError: on ``prepare``, if a local shard is missing.
        BadSampleError: on ``prepare``, if there are no samples, or ``counts`` lacks a shard.

    Source:
        WebDataset (Aizman et al., 2020), https://arxiv.org/abs/2001.01858; its own resampling
        starts anew with each epoch and each run.
    """

    def __init__(
        self,
        shards: str | Sequence[str],
        epoch_size: int | None = None,
        block_size: int = 1000,
        counts: str | Path | None = None,
        image_endings: Sequence[str] = ("jpg", "jpeg", "png", "webp"),
        caption_endings: Sequence[str] = ("txt", "json"),
        caption_field: str = "caption",
        on_bad_image: Literal["error", "skip"] = "error",
        max_skipped: int = 100,
    ) -> None:
        super().__init__(on_bad_image, max_skipped)
        for name, value in (("epoch_size", epoch_size), ("block_size", block_size)):
            if value is not None and value < 1:
                raise ValueError(f"ResampledWebDataset: {name} must be at least 1, got {value}.")
        self.shards = [shards] if isinstance(shards, str) else list(shards)
        self.epoch_size = epoch_size
        self.block_size = block_size
        self.counts = Path(counts) if counts is not None else None
        self.form = sample_form(
            "ResampledWebDataset", image_endings, caption_endings, caption_field
        )
        self._shards = Shards((), (), self.form, skip=on_bad_image == "skip")

    def rebuild_config(self) -> dict[str, Any]:
        """Name the files in full, whatever folder a later command starts in."""
        record = super().rebuild_config()
        record["init_args"]["shards"] = [absolute(shard) for shard in self.shards]
        if self.counts is not None:
            record["init_args"]["counts"] = str(self.counts.absolute())
        return record

    def prepare(self) -> None:
        """Find and count the samples."""
        names = find_shards("ResampledWebDataset", self.shards)
        numbers = count_samples(names, self.counts)
        if not sum(numbers):
            raise BadSampleError(
                f"ResampledWebDataset: the shards must hold samples, got none in {names[0]} and "
                f"{len(names) - 1} more."
            )
        self._shards = self._shards._replace(names=tuple(names), counts=tuple(numbers))

    def __len__(self) -> int:
        """Return the number of samples in all shards; known after ``prepare``."""
        return sum(self._shards.counts)

    def texts(self) -> Iterator[str]:
        """Yield every caption once, which reads all shards through."""
        for pair in self._shards._replace(skip=True).in_order(range(len(self))):
            if isinstance(pair, StreamedPair):
                yield from pair.captions

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
        """Return the batches of one rank; see ``PairStream``."""
        rows = (self.epoch_size or len(self)) if training else len(self)
        step = batch_size * world_size
        length = rows // step if drop_last else -(-rows // step)
        if not length:
            raise ValueError(
                f"ResampledWebDataset: there must be samples for one batch, got {rows} for "
                f"{world_size} x {batch_size}. Make batch_size smaller or set drop_last: false."
            )
        share = Share(batch_size, rank, world_size, length, epoch, position)
        block = self.block_size if training else None
        return ShardLoader(self._shards, make_batch, share, block, seed, num_workers)


class ShardLoader:
    """The batches of one rank; each iteration is the next epoch.

    Args:
        shards: where the pairs are.
        make_batch: makes a batch of pairs.
        share: which batches, of the first epoch.
        block: samples to shuffle together; None to read in order, each sample once.
        seed: chooses draws and orders.
        num_workers: processes that read beside this one.
    """

    def __init__(
        self,
        shards: Shards,
        make_batch: MakeBatch,
        share: Share,
        block: int | None,
        seed: int,
        num_workers: int,
    ) -> None:
        self.shards = shards
        self.make_batch = make_batch
        self.share = share
        self.block = block
        self.seed = seed
        self.num_workers = num_workers

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return self.share.length

    def __iter__(self) -> Iterator[PairBatch]:
        """Start the next epoch, with workers of its own."""
        batches = ShardBatches(self.shards, self.make_batch, self.share, self.block, self.seed)
        self.share = self.share._replace(epoch=self.share.epoch + 1, position=0)
        # Without its own, the loader draws from the generator that dropout draws from.
        generator = torch.Generator().manual_seed(self.seed)
        return iter(
            DataLoader(batches, batch_size=None, num_workers=self.num_workers, generator=generator)
        )
