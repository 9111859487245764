"""The contract of data sources."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lit_vlm.configurable import Configurable
from lit_vlm.conversation import BadSampleError, Conversation
from lit_vlm.data.skipping import check_skipping


class ConversationSource(Configurable, ABC):
    """A list of dialogues, read one at a time.

    Args:
        on_bad_sample: ``error`` stops at the first sample that cannot be used; ``skip`` puts
            another in its place, and the sample in the run folder's ledger.
        max_skipped: most samples that may be skipped before the run stops.

    Raises:
        ValueError: if an argument is not one of those.
    """

    def __init__(
        self, on_bad_sample: Literal["error", "skip"] = "error", max_skipped: int = 100
    ) -> None:
        check_skipping(self, "on_bad_sample", on_bad_sample, max_skipped)
        self.on_bad_sample = on_bad_sample
        self.max_skipped = max_skipped

    @abstractmethod
    def prepare(self) -> None:
        """Index the data; called once, before anything else, in the main process.

        Raises:
            OSError: if a file is missing.
            BadSampleError: if a file cannot be indexed.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of dialogues."""

    @abstractmethod
    def __getitem__(self, index: int) -> Conversation:
        """Read one dialogue; raise ``BadSampleError`` if it cannot be used."""

    @abstractmethod
    def image_keys(self, index: int) -> tuple[int, ...]:
        """Return a key per image of a dialogue; equal keys mean the same image."""

    @abstractmethod
    def lengths(self) -> NDArray[np.int64]:
        """Return a measure of each dialogue's text length, for batches of like lengths."""

    def texts(self) -> Iterator[str]:
        """Yield every turn's text, to train a tokenizer on; unusable samples are passed over."""
        for index in range(len(self)):
            try:
                turns = self[index].turns
            except BadSampleError:
                continue
            yield from (turn.text for turn in turns)


def image_key(path: str | Path) -> int:
    """Return 63 bits that stand for an image's path."""
    digest = hashlib.blake2b(os.path.abspath(path).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Subset(ConversationSource):
    """Some dialogues of a source, e.g. the share held out for validation.

    Args:
        source: the source.
        indices: its dialogues to keep, in this order.
    """

    def __init__(self, source: ConversationSource, indices: list[int]) -> None:
        super().__init__(source.on_bad_sample, source.max_skipped)
        self.source = source
        self.indices = indices

    def prepare(self) -> None:
        """Nothing: the source is prepared."""

    def __len__(self) -> int:
        """Return the number of dialogues kept."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Conversation:
        """Read one dialogue."""
        return self.source[self.indices[index]]

    def image_keys(self, index: int) -> tuple[int, ...]:
        """Return a key per image of a dialogue."""
        return self.source.image_keys(self.indices[index])

    def lengths(self) -> NDArray[np.int64]:
        """Return a measure of each dialogue's text length."""
        return self.source.lengths()[self.indices]


Sources = ConversationSource | Sequence[ConversationSource] | None
"""What a stage may be given: a source, several, or none."""

NamedSources = Sources | Mapping[str, ConversationSource]
"""What training may be given: the same, or several by name, for its stages to choose from."""


def as_list(sources: NamedSources) -> list[ConversationSource]:
    """Return the sources of a stage as a list."""
    if sources is None:
        return []
    if isinstance(sources, Mapping):
        return list(sources.values())
    return [sources] if isinstance(sources, ConversationSource) else list(sources)
