"""A dialogue as a model reads it: its tokens, what is learnt of them, what is cut off."""

from collections.abc import Sequence
from dataclasses import dataclass

from lit_vlm.conversation import BadSampleError, Conversation
from lit_vlm.language_models.base import IGNORED
from lit_vlm.processing import Encoded, Processor

_NO_LIMIT = 1_000_000_000
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True)
class Token:
    """A token of text.

    Attributes:
        place: its place in the sequence, from 0.
        id: its number in the vocabulary.
        text: what it stands for.
        supervised: whether the model learns to say it.
        cut: whether it is behind the length limit.
    """

    place: int
    id: int
    text: str
    supervised: bool
    cut: bool


@dataclass(frozen=True, slots=True)
class VisualTokens:
    """The visual tokens of an image.

    Attributes:
        place: of the first.
        count: how many there are.
        image: which of the dialogue's images they show, from 1.
        cut: whether one of them is behind the length limit.
    """

    place: int
    count: int
    image: int
    cut: bool

    @property
    def text(self) -> str:
        """What stands for them."""
        return f"[{self.count} visual tokens of image {self.image}]"


@dataclass(frozen=True, slots=True)
class ReadDialogue:
    """A dialogue as a model reads it.

    Attributes:
        pieces: in order.
        learnt: the text of each stretch of supervised tokens, as far as the limit leaves it.
        tokens: number of all tokens.
        visual: number of those that are visual.
        supervised: number of those that the model learns, none of them cut off.
        truncated: number of tokens behind the limit.
        max_length: the limit.
        refusal: why training refuses the sample; empty if it does not.
    """

    pieces: tuple[Token | VisualTokens, ...]
    learnt: tuple[str, ...]
    tokens: int
    visual: int
    supervised: int
    truncated: int
    max_length: int
    refusal: str = ""


def read_dialogue(dialogue: Conversation, processor: Processor) -> ReadDialogue:
    """Read a dialogue as in training, also if training refuses it."""
    unlimited = processor.changed(max_length=_NO_LIMIT)
    refusal = ""
    try:
        processor.encode(dialogue)
    except BadSampleError as error:
        refusal = str(error)
    try:
        encoded = unlimited.encode(dialogue)
    except BadSampleError:
        encoded = _prompt(dialogue, unlimited)
    limit = processor.max_length
    labels = [label for label in encoded.labels[:limit] if label != IGNORED]
    return ReadDialogue(
        pieces=tuple(_pieces(encoded, processor, limit)),
        learnt=tuple(_learnt(encoded, processor, limit)),
        tokens=len(encoded.input_ids),
        visual=sum(encoded.is_visual),
        supervised=len(labels),
        truncated=max(0, len(encoded.input_ids) - limit),
        max_length=limit,
        refusal=refusal,
    )


def _prompt(dialogue: Conversation, processor: Processor) -> Encoded:
    try:
        return processor.encode_prompt(dialogue)
    except BadSampleError:  # its words cannot be written at all
        return Encoded([], [], [])


def _pieces(encoded: Encoded, processor: Processor, limit: int) -> list[Token | VisualTokens]:
    pieces: list[Token | VisualTokens] = []
    place, image, per_image = 0, 0, processor.tokens_per_image
    while place < len(encoded.input_ids):
        if encoded.is_visual[place]:
            image += 1
            pieces.append(VisualTokens(place, per_image, image, place + per_image > limit))
            place += per_image
            continue
        id_ = encoded.input_ids[place]
        text = token_text(id_, processor)
        supervised = encoded.labels[place] != IGNORED
        pieces.append(Token(place, id_, text, supervised, place >= limit))
        place += 1
    return pieces


def _learnt(encoded: Encoded, processor: Processor, limit: int) -> list[str]:
    stretches: list[list[int]] = []
    before = False
    for label in encoded.labels[:limit]:
        if label != IGNORED:
            if not before:
                stretches.append([])
            stretches[-1].append(label)
        before = label != IGNORED
    return [decoded(ids, processor) for ids in stretches]


def token_text(id_: int, processor: Processor) -> str:
    """Return what a token stands for; bytes that are no letter by themselves as the token's name.

    Args:
        id_: its number.
        processor: the model's.
    """
    name = str(processor.tokenizer.convert_ids_to_tokens(id_))
    text = decoded([id_], processor)
    if name.startswith("▁") and not text.startswith(" "):
        text = f" {text}"  # decoders drop the space of a text's first word
    return f"‹{name}›" if not text or _REPLACEMENT in text else text


def decoded(ids: Sequence[int], processor: Processor) -> str:
    """Return the text of token ids, special ones included."""
    tokenizer = processor.tokenizer
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))
