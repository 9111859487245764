"""Pictures and captions to batches."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.augmentation import draw_seed
from lit_vlm.data.image_batches import PairBatch, SkippedPicture
from lit_vlm.data.pair_stream import StreamedPair
from lit_vlm.data.picture_reading import PictureFormat
from lit_vlm.images import read_image

Tokenize = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
Captions = Literal["one at random", "first", "all"]


@dataclass(frozen=True, slots=True)
class PairRow:
    """A picture with the captions that go into a batch.

    Attributes:
        index: its place in the data set.
        pixels: None where the model has its vector already.
        captions: one in training.
    """

    index: int
    pixels: UInt8[Tensor, "3 H W"] | None
    captions: Sequence[str]


class PairCollator:
    """Choose captions, bring pictures to size, and stack them.

    Args:
        form: how pictures come to the model.
        tokenize: texts to token ids and mask; must be picklable for worker processes.
        captions: which of a picture's captions go into the batch.
        wants_images: whether pictures are read at all.
    """

    def __init__(
        self, form: PictureFormat, tokenize: Tokenize, captions: Captions, wants_images: bool = True
    ) -> None:
        self.form = form
        self.tokenize = tokenize
        self.captions = captions
        self.wants_images = wants_images

    def row(
        self, index: int, epoch: int, read: Callable[[], Image.Image], captions: Sequence[str]
    ) -> PairRow:
        """Return a row; ``read`` reads the picture."""
        pixels = self.form.pixels(read(), epoch, index) if self.wants_images else None
        return PairRow(index, pixels, self._chosen(index, epoch, captions))

    def batch(self, rows: Sequence[PairRow], skipped: tuple[SkippedPicture, ...] = ()) -> PairBatch:
        """Stack rows."""
        pixels = [row.pixels for row in rows if row.pixels is not None]
        texts = [text for row in rows for text in row.captions]
        input_ids, attention_mask = self.tokenize(texts)
        empty = torch.zeros((0, 3, *self.form.size), dtype=torch.uint8)
        owners = [row.index for row in rows for _ in row.captions]
        return PairBatch(
            images=torch.stack(pixels) if pixels else empty,
            index=torch.tensor([row.index for row in rows], dtype=torch.long),
            input_ids=input_ids,
            attention_mask=attention_mask,
            caption_index=torch.tensor(owners, dtype=torch.long),
            text_ids=torch.tensor([text_id(text) for text in texts], dtype=torch.long),
            skipped=skipped,
        )

    def _chosen(self, index: int, epoch: int, captions: Sequence[str]) -> Sequence[str]:
        if self.captions == "all":
            return captions
        if self.captions == "first":
            return captions[:1]
        # Not the numbers that the view is drawn by: the two choices do not depend on each other.
        random = np.random.default_rng([draw_seed(self.form.seed, epoch, index), 1])
        return (captions[int(random.integers(len(captions)))],)


class StreamCollator:
    """Make batches of what is read from a stream.

    Args:
        collator: chooses captions and stacks.
        skips: whether another pair of the batch stands in for one whose picture cannot be read.
        leaves_out: put nothing in its place.
        known_bad: pictures that are treated like those, without being tried.
    """

    def __init__(
        self,
        collator: PairCollator,
        skips: bool,
        leaves_out: bool = False,
        known_bad: Collection[int] = (),
    ) -> None:
        self.collator = collator
        self.skips = skips
        self.leaves_out = leaves_out
        self.known_bad = frozenset(known_bad)

    def __call__(self, pairs: Sequence[StreamedPair], epoch: int) -> PairBatch:
        """Return the batch of some pairs."""
        rows: list[PairRow | None] = []
        skipped: list[SkippedPicture] = []
        for pair in pairs:
            if pair.index in self.known_bad:
                rows.append(None)
                continue
            try:
                rows.append(self._row(pair, epoch))
            except BadSampleError as error:
                if not self.skips:
                    raise
                skipped.append(SkippedPicture(pair.index, 0, str(error)))
                rows.append(None)
        return self.collator.batch(self._filled(rows, skipped), tuple(skipped))

    def _row(self, pair: StreamedPair, epoch: int) -> PairRow:
        def read() -> Image.Image:
            try:
                return read_image(Image.open(BytesIO(pair.picture)))
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise BadSampleError(
                    f"{pair.name}: the picture cannot be read: {error}. Mend it, or pass such "
                    f"pictures over by on_bad_image: skip."
                ) from error

        return self.collator.row(pair.index, epoch, read, pair.captions)

    def _filled(
        self, rows: Sequence[PairRow | None], skipped: Sequence[SkippedPicture]
    ) -> list[PairRow]:
        good = [row for row in rows if row is not None]
        if self.leaves_out or len(good) == len(rows):
            return good
        if not good:
            last = f"; the last: {skipped[-1].reason}" if skipped else ""
            raise BadSampleError(f"none of the {len(rows)} pictures of a batch can be read{last}")
        return [good[place % len(good)] if row is None else row for place, row in enumerate(rows)]


def text_id(text: str) -> int:
    """Return 63 bits that stand for a caption, the same in every process."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
