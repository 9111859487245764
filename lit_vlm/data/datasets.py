"""Rows of batches from data sources, on worker processes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lit_vlm.conversation import (
    BadSampleError,
    Conversation,
    ImageContent,
    Turn,
    place_boxes,
)
from lit_vlm.data.collation import Example, Reference, Skipped
from lit_vlm.data.sampling import Slot
from lit_vlm.data.sources import ConversationSource
from lit_vlm.language_models.base import IGNORED
from lit_vlm.processing import Encoded, Processor

Purpose = Literal["train", "evaluate", "predict"]
Sight = Literal["real", "shuffled", "blank"]


class ConversationDataset(Dataset[list[Example]]):
    """Read, encode and load the rows of a batch.

    Args:
        sources: prepared sources, one after another.
        processor: the model's.
        purpose: ``train`` encodes whole dialogues, ``predict`` prompts, ``evaluate`` both.
        sight: ``real`` images; ``shuffled``, each sample with another sample's; or ``blank``.
        seed: chooses whose images a shuffled sample gets.
        names: of the sources, in order; empty if they have none.
    """

    def __init__(
        self,
        sources: Sequence[ConversationSource],
        processor: Processor,
        purpose: Purpose,
        sight: Sight = "real",
        seed: int = 0,
        names: Sequence[str] = (),
    ) -> None:
        self.sources = list(sources)
        self.names = list(names)
        self.processor = processor
        self.purpose = purpose
        self.sight = sight
        self._ends = np.cumsum([len(source) for source in self.sources])
        self._donors = self._choose_donors(seed) if sight == "shuffled" else None

    def __len__(self) -> int:
        """Return the number of samples."""
        return int(self._ends[-1])

    def __getitem__(self, slots: Sequence[Slot]) -> list[Example]:
        """Return the rows of a batch."""
        return [self._row(slot) for slot in slots]

    def groups_by_image(self) -> list[list[int]]:
        """Return samples about the same images together; a text-only one is alone."""
        groups: dict[tuple[int, ...] | int, list[int]] = {}
        for index in range(len(self)):
            source, place = self.locate(index)
            groups.setdefault(source.image_keys(place) or index, []).append(index)
        return list(groups.values())

    def samples_of(self, source: int) -> range:
        """Return the samples of a source, which is named by its place."""
        end = int(self._ends[source])
        return range(end - len(self.sources[source]), end)

    def lengths(self) -> NDArray[np.int64]:
        """Return a measure of each sample's text length."""
        return np.concatenate([source.lengths() for source in self.sources])

    def locate(self, index: int) -> tuple[ConversationSource, int]:
        """Return the source of a sample, and the sample's place in it."""
        which = self._which(index)
        return self.sources[which], index - (int(self._ends[which - 1]) if which else 0)

    def _which(self, index: int) -> int:
        return int(np.searchsorted(self._ends, index, side="right"))

    def _row(self, slot: Slot) -> Example:
        samples = slot.samples
        skipped: list[Skipped] = []
        while True:
            # Outside training, what stands in for another sample must not count twice.
            counts = self.purpose == "train" or samples == slot.samples
            try:
                example = self._example(samples, slot.repeated or not counts)
                return replace(example, skipped=tuple(skipped))
            except BadSampleError as error:
                samples = self._without_bad(samples, error, skipped)

    def _without_bad(
        self, samples: tuple[int, ...], error: BadSampleError, skipped: list[Skipped]
    ) -> tuple[int, ...]:
        good = []
        for index in samples:
            problem = error if len(samples) == 1 else self._problem(index)
            if problem is None:
                good.append(index)
                continue
            source, _ = self.locate(index)
            if source.on_bad_sample == "error" or len(skipped) >= len(self):
                raise problem
            skipped.append(Skipped(index, self.sources.index(source), str(problem)))
        if len(good) == len(samples):
            raise error
        return tuple(good) or ((samples[-1] + 1) % len(self),)

    def _problem(self, index: int) -> BadSampleError | None:
        try:
            self._example((index,), repeated=False)
        except BadSampleError as error:
            return error
        return None

    def _example(self, samples: tuple[int, ...], repeated: bool) -> Example:
        joined = join([self._read(index) for index in samples])
        conversation = self.processor.written(joined)
        dialogue, answer = conversation.until_answer()
        if self.purpose == "evaluate" and not (answer or dialogue.answers):
            raise BadSampleError(
                f"{conversation.name}: must end with an answer to compare with, got a user turn "
                f"at the end. Add it, or list what people answered under 'answers'."
            )
        name = self.names[self._which(samples[0])] if self.names else ""
        reference = Reference(samples[0], dialogue, answer, repeated, name)
        encoded = self._encoded(conversation, bool(answer), repeated)
        prompt = None if self.purpose == "train" else self.processor.encode_prompt(dialogue)
        return Example(encoded, prompt, self._pixels(samples[0], conversation), reference)

    def _encoded(
        self, conversation: Conversation, answered: bool, repeated: bool
    ) -> Encoded | None:
        if self.purpose == "predict":
            return None
        if self.purpose == "train" or answered:
            encoded = self.processor.encode(conversation)
        else:  # answers to compare with, and none that a loss could be taken of
            encoded, repeated = self.processor.encode_prompt(conversation), True
        return replace(encoded, labels=[IGNORED] * len(encoded.labels)) if repeated else encoded

    def _read(self, index: int) -> Conversation:
        source, place = self.locate(index)
        return source[place]

    def _pixels(self, index: int, conversation: Conversation) -> list[Tensor]:
        needed = len(conversation.images)
        if self.sight == "blank":
            return [self.processor.blank()] * needed
        if self._donors is None or not needed:
            return self.processor.pixels(conversation)
        other = self.processor.pixels(self._read(int(self._donors[index])))
        return [other[i % len(other)] for i in range(needed)]

    def _choose_donors(self, seed: int) -> NDArray[np.int64]:
        """For each sample with images, one that shows none of them."""
        random = np.random.default_rng(seed)
        keys: dict[int, set[int]] = {}
        for index in range(len(self)):
            source, place = self.locate(index)
            if shown := source.image_keys(place):
                keys[index] = set(shown)
        candidates = list(keys)
        donors = np.full(len(self), -1, dtype=np.int64)
        for index, own in keys.items():
            first = int(random.integers(len(candidates)))
            others = (candidates[(first + i) % len(candidates)] for i in range(len(candidates)))
            donor = next((other for other in others if own.isdisjoint(keys[other])), None)
            if donor is None:
                raise ValueError(
                    f"ConversationDataset: the probe 'shuffled' must find other images for each "
                    f"sample, but all samples with images share some with {self._read(index).name}"
                    f". Leave it out of probes."
                )
            donors[index] = donor
        return donors


def join(conversations: Sequence[Conversation]) -> Conversation:
    """Join dialogues about the same images into one, which shows the images once."""
    first, *others = conversations
    if not others:
        return first
    turns = list(place_boxes(first.turns, first.name))
    for other in others:
        turns += [
            Turn(turn.role, tuple(p for p in turn.content if not isinstance(p, ImageContent)))
            for turn in place_boxes(other.turns, other.name)
            if turn.role != "system"
        ]
    return Conversation(first.id, tuple(turns), first.where, others[-1].answers)
