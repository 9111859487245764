"""The one reading of inputs: dialogues to ids, labels and pixels, and ids back to text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from lit_vlm.box_words import has_boxes, write_boxes
from lit_vlm.conversation import BadSampleError, Box, Conversation
from lit_vlm.images import Resize, fit_image, read_image
from lit_vlm.language_models.base import IGNORED
from lit_vlm.prompts.base import PromptFormat
from lit_vlm.prompts.boxes import BoxFormat, QwenBoxes
from lit_vlm.views import View

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GUARDS = ("\n", "0", "=")
_ARGUMENTS = (
    "tokenizer",
    "prompt",
    "image_size",
    "tokens_per_image",
    "resize",
    "fill",
    "max_length",
    "boxes",
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A dialogue as token ids.

    Attributes:
        input_ids: token ids; anything at the visual places.
        labels: the id where it is supervised, else ``IGNORED``.
        is_visual: whether a place is a visual token's.
        truncated: number of tokens that were cut off.
    """

    input_ids: list[int]
    labels: list[int]
    is_visual: list[bool]
    truncated: int = 0


class Processor:
    """Read dialogues for one model, in training, evaluation, prediction and chat alike.

    Args:
        tokenizer: the language model's tokenizer.
        prompt: the prompt format.
        image_size: height and width that the encoder works at.
        tokens_per_image: number M of visual tokens that an image becomes.
        resize: how pictures of another shape are brought to ``image_size``.
        fill: colour of padding and of a blank image; the encoder's mean.
        max_length: most tokens of a training sequence, visual tokens included.
        boxes: how boxes are written; None for Qwen-VL's form.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        prompt: PromptFormat,
        image_size: tuple[int, int],
        tokens_per_image: int,
        resize: Resize,
        fill: tuple[int, int, int],
        max_length: int,
        boxes: BoxFormat | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.image_size = image_size
        self.tokens_per_image = tokens_per_image
        self.resize: Resize = resize
        self.fill = fill
        self.max_length = max_length
        self.boxes = boxes or QwenBoxes()
        self.stop_ids = prompt.stop_ids(tokenizer)
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._guards = self._needed_guards()
        self._added = {id_: str(word) for id_, word in tokenizer.added_tokens_decoder.items()}
        # The same questions come again and again; a tokenizer call costs as much as a small model.
        self._ids = lru_cache(maxsize=50_000)(self._tokenize)

    def changed(self, **reading: Any) -> "Processor":
        """Return a processor that reads otherwise, e.g. in a stage: by another prompt, ..."""
        own = {name: getattr(self, name) for name in _ARGUMENTS}
        return Processor(**{**own, **reading})

    @property
    def pad_id(self) -> int:
        """Token id that stands at padding and visual places."""
        return int(self._pad)

    def written(self, conversation: Conversation) -> Conversation:
        """Return a dialogue with its boxes as words, for the image that this model sees.

        Raises:
            BadSampleError: if a picture cannot be read, or a box is in none, is not in its
                picture, or is not seen since the crop leaves nothing of it.
        """
        if not has_boxes(conversation):
            return conversation
        return write_boxes(conversation, self.boxes, self.image_size, self.resize)

    def boxes_in_pixels(self, text: str, picture: tuple[int, int]) -> list[Box]:
        """Return the boxes in an answer, in pixels of the stored picture, in order.

        Args:
            text: what the model said.
            picture: width and height of the picture; ``picture_size`` reads them.
        """
        view = View.of(picture, self.image_size, self.resize)
        return [view.stored(box) for box in self.boxes.read(text)]

    def encode(self, conversation: Conversation) -> Encoded:
        """Return ids and labels of a whole dialogue, for training and for the loss.

        Raises:
            BadSampleError: if no token would be supervised, or the length limit would cut into
                the visual tokens or leave nothing of the answers.
        """
        encoded = self._encode(conversation)
        if all(label == IGNORED for label in encoded.labels):
            raise BadSampleError(
                f"{conversation.name}: must have an answer to learn from, got none. The last turn "
                f"must be the assistant's."
            )
        return self._truncate(encoded, conversation)

    def encode_prompt(self, conversation: Conversation) -> Encoded:
        """Return the ids that generation of the next answer starts from.

        Raises:
            BadSampleError: if they are as long as the model's ``max_length``.
        """
        encoded = self._encode(conversation)
        if len(encoded.input_ids) >= self.max_length:
            raise BadSampleError(
                f"{conversation.name}: a prompt must be shorter than max_length="
                f"{self.max_length}, got {len(encoded.input_ids)} tokens. Shorten it or raise "
                f"max_length."
            )
        return encoded

    def pixels(self, conversation: Conversation) -> list[UInt8[Tensor, "3 H W"]]:
        """Return the dialogue's images at the model's size, in reading order.

        Raises:
            BadSampleError: if one cannot be read.
        """
        try:
            return [
                fit_image(read_image(image.source), self.image_size, self.resize, self.fill)
                for image in conversation.images
            ]
        except ValueError as error:
            raise BadSampleError(f"{conversation.name}: {error}.") from error

    def blank(self) -> UInt8[Tensor, "3 H W"]:
        """Return an image that shows nothing: the encoder's mean colour."""
        colour = torch.tensor(self.fill, dtype=torch.uint8)
        return colour.reshape(3, 1, 1).expand(3, *self.image_size).contiguous()

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, up to the first token that ends an answer."""
        said = list(ids)
        ends = [said.index(stop) for stop in self.stop_ids if stop in said]
        text = self.tokenizer.decode(said[: min(ends, default=len(said))], skip_special_tokens=True)
        return str(text).strip()

    def __getstate__(self) -> dict[str, object]:
        """Leave the cache behind when worker processes are started."""
        return {k: v for k, v in self.__dict__.items() if k != "_ids"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Start with an empty cache."""
        self.__dict__.update(state)
        self._ids = lru_cache(maxsize=50_000)(self._tokenize)

    def _encode(self, conversation: Conversation) -> Encoded:
        ids: list[int] = []
        labels: list[int] = []
        is_visual: list[bool] = []
        turns = self.written(conversation).turns
        try:
            segments = self.prompt.segments(turns, self.tokenizer)
        except ValueError as error:
            raise BadSampleError(f"{conversation.name}: {error}") from error
        for segment in segments:
            visual = segment.kind == "image"
            if visual:
                new = [self.pad_id] * self.tokens_per_image
            else:
                literal = segment.kind == "content"
                follows = self._follows(ids, is_visual, literal)
                new = list(self._ids(segment.text, literal, follows))
            ids += new
            labels += new if segment.supervised else [IGNORED] * len(new)
            is_visual += [visual] * len(new)
        return Encoded(ids, labels, is_visual)

    def _truncate(self, encoded: Encoded, conversation: Conversation) -> Encoded:
        excess = len(encoded.input_ids) - self.max_length
        if excess <= 0:
            return encoded
        kept = slice(self.max_length)
        if any(encoded.is_visual[self.max_length :]):
            raise BadSampleError(
                f"{conversation.name}: visual tokens must not be cut, but the sample has "
                f"{len(encoded.input_ids)} tokens ({sum(encoded.is_visual)} of them visual) and "
                f"max_length is {self.max_length}. Raise max_length or drop images."
            )
        if all(label == IGNORED for label in encoded.labels[kept]):
            raise BadSampleError(
                f"{conversation.name}: the answer must not be cut away, but the sample has "
                f"{len(encoded.input_ids)} tokens, its first answer starts behind max_length="
                f"{self.max_length}. Raise max_length or shorten the question."
            )
        return Encoded(
            encoded.input_ids[kept], encoded.labels[kept], encoded.is_visual[kept], excess
        )

    def _follows(self, ids: list[int], is_visual: list[bool], literal: bool) -> str | None:
        """Return what the tokenizer must see before the next segment; None at the beginning."""
        if not ids or (literal and ids == [self.tokenizer.bos_token_id]):
            return None
        return "" if literal or is_visual[-1] else self._added.get(ids[-1], "")

    def _tokenize(self, text: str, literal: bool, follows: str | None) -> tuple[int, ...]:
        guards = self._guards if follows == "" else [follows] if follows else []
        for guard in guards:
            before = self._plain_ids(guard, literal=False)
            ids = self._plain_ids(guard + text, literal)
            if ids[: len(before)] == before:
                return tuple(ids[len(before) :])
        return tuple(self._plain_ids(text, literal))

    def _plain_ids(self, text: str, literal: bool) -> list[int]:
        read = self.tokenizer(text, add_special_tokens=False, split_special_tokens=literal)
        return list(read.input_ids)

    def _needed_guards(self) -> list[str]:
        # SentencePiece-like tokenizers put a space before whatever they are given; in the middle
        # of a sequence that space would be one the text does not have. Several, since some
        # vocabularies join one of them with what follows.
        ids = {text: self._plain_ids(text, literal=False) for text in (*_GUARDS, "a")}
        together = {guard: self._plain_ids(guard + "a", literal=False) for guard in _GUARDS}
        return [
            guard
            for guard in _GUARDS
            if together[guard] != ids[guard] + ids["a"]
            and together[guard][: len(ids[guard])] == ids[guard]
        ]
