"""Samples to batches."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from lit_vlm.conversation import Conversation
from lit_vlm.language_models.base import IGNORED
from lit_vlm.language_models.token_roles import TokenRoles
from lit_vlm.processing import Encoded


@dataclass(frozen=True, slots=True)
class TextInputs:
    """Token ids of a batch, padded to one length.

    Attributes:
        input_ids: token ids (B, T).
        attention_mask: False at padding (B, T).
        is_visual: True where visual tokens go (B, T).
        labels: ids at supervised places, else ``IGNORED`` (B, T).
    """

    input_ids: Int[Tensor, "B T"]
    attention_mask: Bool[Tensor, "B T"]
    is_visual: Bool[Tensor, "B T"]
    labels: Int[Tensor, "B T"]

    @property
    def roles(self) -> TokenRoles:
        """What each token is to a language model that treats images and prompts apart."""
        before_answers = (self.labels != IGNORED).cumsum(dim=1) == 0
        return TokenRoles(self.is_visual, before_answers & self.attention_mask)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a row was made from, for scores and predictions.

    Attributes:
        index: place in the data set; equal on all ranks for the same sample.
        dialogue: the turns before the answer.
        answer: the answer in the data, or an empty text.
        repeated: whether the row only fills a batch and counts for nothing.
        source: name of the source that it is from; empty if sources have none.
    """

    index: int
    dialogue: Conversation
    answer: str
    repeated: bool
    source: str = ""

    @property
    def answers(self) -> tuple[str, ...]:
        """All that an answer may be compared with: what people said, or the answer in the data."""
        return self.dialogue.answers or ((self.answer,) if self.answer else ())


@dataclass(frozen=True, slots=True)
class Skipped:
    """A sample that could not be used: its place in the data set, its source and the reason."""

    index: int
    source: int
    reason: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row before collation; ``encoded`` or ``prompt`` is None where it is not needed."""

    encoded: Encoded | None
    prompt: Encoded | None
    pixels: list[UInt8[Tensor, "3 H W"]]
    reference: Reference
    skipped: tuple[Skipped, ...] = ()


class Batch:
    """Images and texts of some samples.

    Args:
        images: all images (B_img, 3, H, W), uint8, by sample and then by position; may be none.
        inputs: whole dialogues, padded on the right; None in prediction.
        prompts: dialogues up to the answer, padded on the left; None in training.
        references: what each row was made from.
        skipped: samples that others stand in for.
        num_tokens: tokens of the inputs or prompts, padding not counted.
        num_truncated: rows whose text was cut at the length limit.
    """

    # No dataclass: Lightning's precisions (bf16-true, ...) take those apart, refuse frozen ones,
    # and would copy every reference to find no tensor in it.
    def __init__(
        self,
        images: UInt8[Tensor, "I 3 H W"],
        inputs: TextInputs | None,
        prompts: TextInputs | None,
        references: tuple[Reference, ...],
        skipped: tuple[Skipped, ...] = (),
        num_tokens: int = 0,
        num_truncated: int = 0,
    ) -> None:
        self.images = images
        self.inputs = inputs
        self.prompts = prompts
        self.references = references
        self.skipped = skipped
        self.num_tokens = num_tokens
        self.num_truncated = num_truncated

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.references)

    def to(self, *args: Any, **kwargs: Any) -> "Batch":
        """Return the batch on a device; the arguments are ``Tensor.to``'s."""
        return self._changed(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory, for fast copies to a GPU."""
        return self._changed(Tensor.pin_memory)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        changed = copy(self)
        changed.images = change(self.images)
        changed.inputs = _each_tensor(self.inputs, change)
        changed.prompts = _each_tensor(self.prompts, change)
        return changed


class Collator:
    """Pad examples and stack them.

    Args:
        pad_id: token id at padding.
        image_size: height and width of images, for batches without one.
    """

    def __init__(self, pad_id: int, image_size: tuple[int, int]) -> None:
        self.pad_id = pad_id
        self.image_size = image_size

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Return the batch of some examples."""
        encoded = [e.encoded for e in examples if e.encoded is not None]
        prompts = [e.prompt for e in examples if e.prompt is not None]
        pixels = [image for example in examples for image in example.pixels]
        empty = torch.zeros((0, 3, *self.image_size), dtype=torch.uint8)
        return Batch(
            images=torch.stack(pixels) if pixels else empty,
            inputs=self._pad(encoded, left=False) if encoded else None,
            prompts=self._pad(prompts, left=True) if prompts else None,
            references=tuple(example.reference for example in examples),
            skipped=tuple(skipped for example in examples for skipped in example.skipped),
            num_tokens=sum(len(e.input_ids) for e in encoded or prompts),
            num_truncated=sum(e.truncated > 0 for e in encoded),
        )

    def _pad(self, rows: list[Encoded], left: bool) -> TextInputs:
        longest = max(len(row.input_ids) for row in rows)

        def padded(values: list[list[Any]], fill: Any) -> Tensor:
            filled = [
                [fill] * (longest - len(v)) + v if left else v + [fill] * (longest - len(v))
                for v in values
            ]
            return torch.tensor(filled)

        return TextInputs(
            input_ids=padded([row.input_ids for row in rows], self.pad_id),
            attention_mask=padded([[True] * len(row.input_ids) for row in rows], False),
            is_visual=padded([row.is_visual for row in rows], False),
            labels=padded([row.labels for row in rows], IGNORED),
        )


def _each_tensor(inputs: TextInputs | None, change: Any) -> TextInputs | None:
    if inputs is None:
        return None
    return TextInputs(**{f.name: change(getattr(inputs, f.name)) for f in fields(inputs)})
