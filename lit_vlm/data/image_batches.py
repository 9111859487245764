"""Batches of pictures with labels, with captions, or cut into crops."""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from jaxtyping import Int, UInt8
from torch import Tensor

_Batch = TypeVar("_Batch", bound="_OnDevice")


@dataclass(slots=True)  # not frozen, as the batches
class SkippedPicture:
    """A picture that could not be read: its place in the data set, its source and the reason."""

    index: int
    source: int
    reason: str


class _OnDevice:
    """Lets Lightning move a batch of tensors."""

    __slots__ = ()

    def to(self: _Batch, *args: Any, **kwargs: Any) -> _Batch:
        """Return the batch on a device; the arguments are ``Tensor.to``'s."""
        return self._with(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self: _Batch) -> _Batch:
        """Return the batch in page-locked memory, for fast copies to a GPU."""
        return self._with(lambda tensor: tensor.pin_memory())

    def _with(self: _Batch, change: Any) -> _Batch:
        held: Any = self
        values = {field.name: getattr(held, field.name) for field in fields(held)}
        changed = {name: change(v) for name, v in values.items() if isinstance(v, Tensor)}
        return replace(held, **changed)


@dataclass(slots=True)  # not frozen: Lightning's precisions take batches apart
class LabelledBatch(_OnDevice):
    """Pictures and their classes.

    Attributes:
        images: the pictures, at the encoder's size.
        labels: number of each picture's class; -1 for none.
        index: place of each in the data set.
        skipped: pictures that could not be read.
    """

    images: UInt8[Tensor, "B 3 H W"]
    labels: Int[Tensor, "B"]
    index: Int[Tensor, "B"]
    skipped: tuple[SkippedPicture, ...] = ()

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.index)


@dataclass(slots=True)
class CropBatch(_OnDevice):
    """Several crops of each picture, for self-distillation.

    Attributes:
        global_crops: crops of most of a picture, G of each picture.
        local_crops: crops of a small part at a smaller size, L of each picture; may be none.
        index: place of each picture in the data set.
        skipped: pictures that could not be read.
    """

    global_crops: UInt8[Tensor, "G B 3 H W"]
    local_crops: UInt8[Tensor, "L B 3 h w"]
    index: Int[Tensor, "B"]
    skipped: tuple[SkippedPicture, ...] = ()

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.index)


@dataclass(slots=True)
class PairBatch(_OnDevice):
    """Pictures and captions.

    In training there is one caption for each picture, in the same order (C = B); otherwise all
    captions of each.

    Attributes:
        images: the pictures, at the encoder's size; none (B = 0 rows) where the model has their
            vectors already (a locked encoder's, computed once), and says so by ``wants_images``.
        index: place of each picture in the data set.
        input_ids: tokens of the captions, padded on the right.
        attention_mask: 1 for tokens, 0 for padding.
        caption_index: for each caption, the place in the data set of its picture.
        text_ids: a number for each caption; equal numbers mean equal captions.
        skipped: pictures that could not be read.
    """

    images: UInt8[Tensor, "_ 3 H W"]
    index: Int[Tensor, "B"]
    input_ids: Int[Tensor, "C T"]
    attention_mask: Int[Tensor, "C T"]
    caption_index: Int[Tensor, "C"]
    text_ids: Int[Tensor, "C"]
    skipped: tuple[SkippedPicture, ...] = ()

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.index)
