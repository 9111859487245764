"""The contract of prompt formats."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lit_vlm.configurable import Configurable
from lit_vlm.conversation import BoxContent, ImageContent, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a prompt that is tokenised by itself.

    Attributes:
        kind: ``markup`` may hold special tokens; ``content`` is read as words, somebody's or the
            format's, and never does; ``image`` stands for the visual tokens of the next image.
        text: the words; empty for an image.
        supervised: whether the model learns to say it.
    """

    kind: Literal["markup", "content", "image"]
    text: str = ""
    supervised: bool = False


IMAGE = Segment("image")


class PromptFormat(Configurable, ABC):
    """Write a dialogue as segments, supervised ones apart from the rest.

    Ids and labels come from the same segments, so the prompt that generation starts from is
    token for token the prefix that precedes the answer in training.
    """

    @property
    def new_tokens(self) -> tuple[str, ...]:
        """Special tokens that the format needs; the model adds those that its tokenizer lacks."""
        return ()

    @abstractmethod
    def segments(
        self, turns: Sequence[Turn], tokenizer: "PreTrainedTokenizerBase"
    ) -> list[Segment]:
        """Return the segments of a dialogue.

        If the last turn is the user's, they end where the assistant is to speak.
        """

    @abstractmethod
    def stop_ids(self, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
        """Return the tokens that end an answer; at least one."""


def written_parts(turn: Turn) -> list[str | ImageContent]:
    """Return the words and images of a turn, in order.

    Raises:
        ValueError: if it holds a box that no processor has written as words.
    """
    parts: list[str | ImageContent] = []
    for part in turn.content:
        if isinstance(part, BoxContent):
            raise ValueError(
                f"a prompt format must be given boxes as words, got {part}. Processor.written "
                f"turns them into words, for the image that the model sees."
            )
        parts.append(part)
    return parts


def words(turn: Turn) -> str:
    """Return the words of a turn; refuse boxes that are not words yet."""
    return "".join(part for part in written_parts(turn) if isinstance(part, str))


def end_of_text(tokenizer: "PreTrainedTokenizerBase", who: str) -> str:
    """Return the tokenizer's end-of-text token, or say that it has none."""
    if not isinstance(tokenizer.eos_token, str):
        raise ValueError(
            f"{who}: the tokenizer must have an end-of-text token, got none. Set its eos_token."
        )
    return tokenizer.eos_token


def begin_of_text(tokenizer: "PreTrainedTokenizerBase") -> list[Segment]:
    """Return the token with which the tokenizer begins every text, if it does."""
    # GPT-2 has such a token and never begins a text with it.
    ids = tokenizer("a").input_ids
    begins = bool(ids) and ids[0] == tokenizer.bos_token_id
    return [Segment("markup", str(tokenizer.bos_token))] if begins else []


def special_words(tokenizer: "PreTrainedTokenizerBase") -> set[str]:
    """Return every text that the tokenizer reads as one special token."""
    added = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
    return added | set(tokenizer.all_special_tokens)
