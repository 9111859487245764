"""Qwen-VL's first two stages: an image, a task prompt and its answer."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lit_vlm.conversation import ImageContent, Turn
from lit_vlm.prompts.base import (
    IMAGE,
    PromptFormat,
    Segment,
    begin_of_text,
    end_of_text,
    words,
    written_parts,
)
from lit_vlm.prompts.chat_models import warn_of_chat_model
from lit_vlm.prompts.markers import (
    Markers,
    check_new_tokens,
    checked_markers,
    joined,
    marker,
    split_system,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OPEN, _CLOSE, _PHRASE_END = "<img>", "</img>", "</ref>"


class QwenVLPretraining(PromptFormat):
    """Write images, task prompts and answers as Qwen-VL's two stages before the chat do.

    A sample reads ``<img>{image}</img>Generate the caption in English: {answer}{eos}``. The task
    prompt is the data's question; others are ``OCR with grounding:``, ``{question} Answer:`` and
    ``<ref>{phrase}</ref>``. The space before an answer is learnt with it; behind ``</ref>`` there
    is none, since a box follows.

    Args:
        markers: ``tokens`` makes ``<img>`` and ``</img>`` tokens, new ones if the tokenizer lacks
            them; ``words`` writes them in ordinary tokens.

    Raises:
        ValueError: if ``markers`` is another word; when used, if the tokenizer has no end of text
            or lacks a new token.

    Source:
        Qwen-VL (Bai et al., 2023), https://arxiv.org/abs/2308.12966, its appendix on data formats.
        Where a dialogue has a system turn, a line break follows it; there, none has.
    """

    def __init__(self, markers: Markers = "tokens") -> None:
        self.markers = checked_markers("QwenVLPretraining", markers)

    @property
    def new_tokens(self) -> tuple[str, ...]:
        """The tokens around a picture, if they are to be tokens."""
        return (_OPEN, _CLOSE) if self.markers == "tokens" else ()

    def segments(
        self, turns: Sequence[Turn], tokenizer: "PreTrainedTokenizerBase"
    ) -> list[Segment]:
        """Return the segments of a dialogue."""
        check_new_tokens(self, tokenizer)
        stop = Segment("markup", end_of_text(tokenizer, "QwenVLPretraining"), supervised=True)
        segments = begin_of_text(tokenizer)
        system, rest = split_system(turns, "")
        segments.append(Segment("content", f"{system}\n" if system else ""))
        space = ""
        for turn in rest:
            if turn.role == "assistant":
                segments += [Segment("content", space + words(turn), True), stop]
            else:
                segments += self._prompt(turn)
                space = "" if words(turn).endswith(_PHRASE_END) else " "
        return joined(segments)

    def stop_ids(self, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
        """Return the end-of-text token."""
        warn_of_chat_model("QwenVLPretraining", tokenizer)
        check_new_tokens(self, tokenizer)
        end_of_text(tokenizer, "QwenVLPretraining")
        return [int(tokenizer.eos_token_id)]

    def _prompt(self, turn: Turn) -> Iterator[Segment]:
        behind_image = False
        for part in written_parts(turn):
            if isinstance(part, ImageContent):
                yield marker(_OPEN, self.markers)
                yield IMAGE
                yield marker(_CLOSE, self.markers)
            else:  # data in LLaVA's form keep an image apart by a line break; these do not
                yield Segment("content", part.removeprefix("\n") if behind_image else part)
            behind_image = isinstance(part, ImageContent)
