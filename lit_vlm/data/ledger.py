"""A record of samples that were passed over."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.collation import Skipped
from lit_vlm.data.image_batches import SkippedPicture
from lit_vlm.data.pair_stream import PairStream
from lit_vlm.data.picture_sources import PictureSource
from lit_vlm.data.sources import ConversationSource


class SkipLedger:
    """Write each skipped sample down once, and stop the run above a source's ceiling.

    Args:
        path: a JSON Lines file, added to; made with the first skipped sample.
        sources: the sources, whose ``max_skipped`` are the ceilings.

    Raises:
        BadSampleError: on ``record``, when a source's ceiling is passed.
    """

    def __init__(
        self, path: Path, sources: Sequence[ConversationSource | PictureSource | PairStream]
    ) -> None:
        self.path = path
        self.sources = sources
        self.counts: Counter[int] = Counter()
        self._seen: set[int] = set()

    @property
    def total(self) -> int:
        """Number of samples skipped so far, each counted once."""
        return self.counts.total()

    def record(self, skipped: Iterable[Skipped | SkippedPicture]) -> None:
        """Add samples to the file."""
        for sample in skipped:
            if sample.index in self._seen:
                continue
            self._seen.add(sample.index)
            self.counts[sample.source] += 1
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                line = {"sample": sample.index, "reason": sample.reason}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            ceiling = self.sources[sample.source].max_skipped
            if self.counts[sample.source] > ceiling:
                raise BadSampleError(
                    f"more than max_skipped={ceiling} samples could not be used, all named in "
                    f"{self.path}; the last: {sample.reason}"
                )
