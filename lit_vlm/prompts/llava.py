"""LLaVA's first format, which is Vicuna's."""

from collections.abc import Iterator, Sequence
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
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_USER, _ASSISTANT = "USER:", "ASSISTANT:"


class LLaVAV1(PromptFormat):
    r"""Write a dialogue as LLaVA 1.0 and 1.5 do (``v1``), for Vicuna and base models.

    A system sentence, then rounds of ``USER: {image}\n{question} ASSISTANT: {answer}{eos}``. Images
    move to the start of their turn. The space before an answer is learnt with it, as in LLaVA.

    Args:
        system: the sentence in front, unless the dialogue has a system turn; empty for none.
        markers: ``words`` writes ``USER:`` and ``ASSISTANT:`` in ordinary tokens, as LLaVA does;
            ``tokens`` makes each a new special token.

    Raises:
        ValueError: if ``markers`` is another word; when used, if the tokenizer has no end of text
            or lacks a new token.

    Source:
        LLaVA (Liu et al., 2023), https://github.com/haotian-liu/LLaVA, ``conv_vicuna_v1``. There, a
        turn keeps one image only, and Llama's tokenizer adds a space token behind it.
    """

    def __init__(self, system: str = _SYSTEM, markers: Markers = "words") -> None:
        self.system = system
        self.markers = checked_markers("LLaVAV1", markers)

    @property
    def new_tokens(self) -> tuple[str, ...]:
        """The names of the speakers, if they are to be tokens."""
        return (_USER, _ASSISTANT) if self.markers == "tokens" else ()

    def segments(
        self, turns: Sequence[Turn], tokenizer: "PreTrainedTokenizerBase"
    ) -> list[Segment]:
        """Return the segments of a dialogue."""
        check_new_tokens(self, tokenizer)
        stop = Segment("markup", end_of_text(tokenizer, "LLaVAV1"), supervised=True)
        due = marker(_ASSISTANT, self.markers)
        segments = begin_of_text(tokenizer)
        system, rest = split_system(turns, self.system)
        segments.append(Segment("content", f"{system} " if system else ""))
        for turn in rest:
            if turn.role == "assistant":
                segments += [due, Segment("content", f" {words(turn)}", True), stop]
            else:
                segments += [marker(_USER, self.markers), *_question(turn)]
        if rest and rest[-1].role != "assistant":
            segments.append(due)
        return joined(segments)

    def stop_ids(self, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
        """Return the end-of-text token."""
        if _ASSISTANT not in str(tokenizer.chat_template):  # else the template is this format's
            warn_of_chat_model("LLaVAV1", tokenizer)
        end_of_text(tokenizer, "LLaVAV1")
        return [int(tokenizer.eos_token_id)]


def _question(turn: Turn) -> Iterator[Segment]:
    images, text = split_images(turn)
    yield Segment("content", " ")
    for left in reversed(range(images)):
        yield IMAGE
        yield Segment("content", "\n" if left or text else "")
    yield Segment("content", f"{text} ")
