"""Pairs out of counted shards, in order or drawn with replacement."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.image_batches import SkippedPicture
from lit_vlm.data.pair_stream import StreamedPair
from lit_vlm.data.shard_draws import drawn_shards, shuffled
from lit_vlm.data.shard_reading import read_shard, short_name
from lit_vlm.data.shard_samples import SampleForm

ReadPair = StreamedPair | SkippedPicture


class Shards(NamedTuple):
    """Counted shards.

    Attributes:
        names: files, addresses or commands.
        counts: the samples of each.
        form: which members of a sample are wanted.
        skip: pass over a sample that lacks one, instead of stopping.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    form: SampleForm
    skip: bool

    def read(self, shard: int, begin: int) -> Iterator[ReadPair]:
        """Yield a shard's samples from one on."""
        name, total = self.names[shard], self.counts[shard]
        first = sum(self.counts[:shard])
        place = begin
        for place, sample in enumerate(islice(read_shard(name), begin, total), start=begin + 1):
            yield self._pair(first + place - 1, f"{short_name(name)}: {sample['__key__']}", sample)
        if place < total:
            raise BadSampleError(
                f"{name}: must hold {total} samples as it was counted, got {place}. Count again."
            )

    def in_order(self, places: Iterable[int]) -> Iterator[ReadPair]:
        """Yield the samples at some ascending places of all; a place may come again at once."""
        ends = np.cumsum(self.counts)
        samples: Iterator[ReadPair] = iter(())
        shard = at = last = -1
        for place in places:
            if place != last:
                which = int(np.searchsorted(ends, place, side="right"))
                if which != shard:
                    shard, at = which, int(ends[which]) - self.counts[which]
                    samples = self.read(which, 0)
                pair = next(islice(samples, place - at, None))
                at, last = place + 1, place
            yield pair

    def drawn(self, key: Sequence[int], block: int, begin: int) -> Iterator[ReadPair]:
        """Yield samples of drawn shards for ever, shuffled within blocks, from one on."""
        whole = begin - begin % block
        draws = drawn_shards(self.counts, [*key, 0], whole)
        pairs = (pair for shard, first in draws for pair in self.read(shard, first))
        return shuffled(pairs, block, [*key, 1], begin)

    def _pair(self, index: int, name: str, sample: dict[str, Any]) -> ReadPair:
        try:
            endings = [ending for ending in sample if not ending.startswith("__")]
            picture, captions = self.form.members(endings)
            texts = self.form.read_captions(captions, sample[captions], name)
        except (LookupError, BadSampleError) as error:
            reason = f"{name}: {error}" if isinstance(error, LookupError) else str(error)
            if self.skip:
                return SkippedPicture(index, 0, reason)
            raise BadSampleError(f"{reason} Pass it over by on_bad_image: skip.") from error
        return StreamedPair(index, sample[picture], texts, name)
