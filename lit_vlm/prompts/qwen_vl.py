"""Qwen-VL's format: ChatML with numbered pictures."""

from collections.abc import Iterator, Sequence
from itertools import count
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

_START, _END, _OPEN, _CLOSE = "<|im_start|>", "<|im_end|>", "<img>", "</img>"


class QwenVL(PromptFormat):
    r"""Write a dialogue in ChatML, each image as ``Picture 1: <img>{image}</img>\n`` in its place.

    For Qwen models, and for answers with boxes, see ``QwenBoxes``. A turn reads
    ``<|im_start|>user\n{question}<|im_end|>\n``. Pictures are numbered from first to last.

    The tags of boxes and references are words under either choice of markers: they are part of
    what is said, and a special token would be left out of an answer when it is decoded.

    Args:
        system: the system turn, unless the dialogue has its own; empty for none.
        markers: ``tokens`` makes each of ``<|im_start|>``, ``<|im_end|>``, ``<img>`` and
            ``</img>`` one token; those that the tokenizer lacks are new ones. ``words`` writes
            them in ordinary tokens, and end of text takes the place of ``<|im_end|>`` behind an
            answer, since one token must end it.

    Raises:
        ValueError: if ``markers`` is another word; when used, if the tokenizer lacks a token of
            ``new_tokens``, or, with words, has no end of text.

    Source:
        Qwen-VL (Bai et al., 2023), https://arxiv.org/abs/2308.12966; there, the ChatML tokens of
        every turn are supervised too, and the tags of boxes are special tokens.
    """

    def __init__(
        self, system: str = "You are a helpful assistant.", markers: Markers = "tokens"
    ) -> None:
        self.system = system
        self.markers = checked_markers("QwenVL", markers)

    @property
    def new_tokens(self) -> tuple[str, ...]:
        """The tokens of turns and pictures, if they are to be tokens."""
        return (_START, _END, _OPEN, _CLOSE) if self.markers == "tokens" else ()

    def segments(
        self, turns: Sequence[Turn], tokenizer: "PreTrainedTokenizerBase"
    ) -> list[Segment]:
        """Return the segments of a dialogue."""
        check_new_tokens(self, tokenizer)
        end = marker(_END, self.markers)
        stop = Segment("markup", self._stop(tokenizer), supervised=True)
        system, rest = split_system(turns, self.system)
        numbers = count(1)
        blocks = [[*self._opens("system"), Segment("content", system), end]] if system else []
        for turn in rest:
            if turn.role == "assistant":
                said = [Segment("content", words(turn), True), stop]
                blocks.append([*self._opens("assistant"), *said])
            else:
                blocks.append([*self._opens("user"), *self._question(turn, numbers), end])
        if rest and rest[-1].role != "assistant":
            blocks.append(self._opens("assistant"))
        segments = begin_of_text(tokenizer)
        for i, block in enumerate(blocks):
            segments += [Segment("content", "\n" if i else ""), *block]
        return joined(segments)

    def stop_ids(self, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
        """Return the token that ends a turn, and the end of text."""
        warn_of_chat_model("QwenVL", tokenizer)
        check_new_tokens(self, tokenizer)
        stops = [tokenizer.convert_tokens_to_ids(self._stop(tokenizer)), tokenizer.eos_token_id]
        return [int(stop) for stop in dict.fromkeys(stops) if stop is not None]

    def _stop(self, tokenizer: "PreTrainedTokenizerBase") -> str:
        return _END if self.markers == "tokens" else end_of_text(tokenizer, "QwenVL")

    def _opens(self, role: str) -> list[Segment]:
        return [marker(_START, self.markers), Segment("content", f"{role}\n")]

    def _question(self, turn: Turn, numbers: Iterator[int]) -> Iterator[Segment]:
        behind_image = False
        for part in written_parts(turn):
            if isinstance(part, ImageContent):
                yield Segment("content", f"Picture {next(numbers)}: ")
                yield marker(_OPEN, self.markers)
                yield IMAGE
                yield marker(_CLOSE, self.markers)
                yield Segment("content", "\n")
            else:  # a line break behind an image is there already
                yield Segment("content", part.removeprefix("\n") if behind_image else part)
            behind_image = isinstance(part, ImageContent)
