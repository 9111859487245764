"""DeepSpeed-VisualChat's format: headings and numbered images."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

from lit_vlm.conversation import Turn
from lit_vlm.prompts.base import (
    IMAGE,
    PromptFormat,
    Segment,
    begin_of_text,
    end_of_text,
    words,
)
from lit_vlm.prompts.chat_models import warn_of_chat_model
from lit_vlm.prompts.markers import (
    Markers,
    check_new_tokens,
    checked_markers,
    joined,
    marker,
    split_images,
    split_system,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
_IMAGE, _QUESTION, _ANSWER = "### Image", "### Question:", "### Answer:"


class VisualChat(PromptFormat):
    r"""Write a dialogue under Markdown headings, its images numbered from first to last.

    For base models and dialogues about several images, whose questions name them by number. A
    system paragraph, then rounds of ``### Image 1:\n{image}\n\n### Question:\n{question}\n\n``
    and ``### Answer:\n{answer}{eos}``. Its authors found new special tokens clearly worse than
    these words.

    Args:
        system: the paragraph in front, unless the dialogue has a system turn; empty for none.
        markers: ``words`` writes the headings in ordinary tokens, ``tokens`` makes ``### Image``,
            ``### Question:`` and ``### Answer:`` new special tokens.

    Raises:
        ValueError: if ``markers`` is another word; when used, if the tokenizer has no end of text
            or lacks a new token.

    Source:
        DeepSpeed-VisualChat (Yao et al., 2023), https://arxiv.org/abs/2309.14327, as in its
        ``utils/data/DST.py``; there, every round begins with a token for begin of text.
    """

    def __init__(self, system: str = _SYSTEM, markers: Markers = "words") -> None:
        self.system = system
        self.markers = checked_markers("VisualChat", markers)

    @property
    def new_tokens(self) -> tuple[str, ...]:
        """The headings, if they are to be tokens."""
        return (_IMAGE, _QUESTION, _ANSWER) if self.markers == "tokens" else ()

    def segments(
        self, turns: Sequence[Turn], tokenizer: "PreTrainedTokenizerBase"
    ) -> list[Segment]:
        """Return the segments of a dialogue."""
        check_new_tokens(self, tokenizer)
        stop = Segment("markup", end_of_text(tokenizer, "VisualChat"), supervised=True)
        due = [marker(_ANSWER, self.markers), Segment("content", "\n")]
        segments = begin_of_text(tokenizer)
        system, rest = split_system(turns, self.system)
        segments.append(Segment("content", f"{system}\n\n" if system else ""))
        numbers = count(1)
        for turn in rest:
            if turn.role == "assistant":
                segments += [*due, Segment("content", words(turn), True), stop]
            else:
                segments += self._question(turn, numbers)
        if rest and rest[-1].role != "assistant":
            segments += due
        return joined(segments)

    def stop_ids(self, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
        """Return the end-of-text token."""
        warn_of_chat_model("VisualChat", tokenizer)
        end_of_text(tokenizer, "VisualChat")
        return [int(tokenizer.eos_token_id)]

    def _question(self, turn: Turn, numbers: Iterator[int]) -> Iterator[Segment]:
        images, text = split_images(turn)
        for _ in range(images):
            yield marker(_IMAGE, self.markers)
            yield Segment("content", f" {next(numbers)}:\n")
            yield IMAGE
            yield Segment("content", "\n")
        yield Segment("content", "\n" if images else "")
        yield marker(_QUESTION, self.markers)
        yield Segment("content", f"\n{text}\n\n")
