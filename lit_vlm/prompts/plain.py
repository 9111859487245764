"""The barest prompt format: texts and a separator."""

from collections.abc import Sequence
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

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Plain(PromptFormat):
    r"""Write each turn's text as it is; a separator follows the user's, end of text the answer.

    For base models and models trained from scratch: nothing is there that the model must have
    seen before. A dialogue reads ``{image}{question}\n{answer}{eos}{question}\n{answer}{eos}``.

    Args:
        separator: what stands between a system or user turn and what follows it.
    """

    def __init__(self, separator: str = "\n") -> None:
        self.separator = separator

    def segments(
        self, turns: Sequence[Turn], tokenizer: "PreTrainedTokenizerBase"
    ) -> list[Segment]:
        """Return the segments of a dialogue."""
        segments = begin_of_text(tokenizer)
        for turn in turns:
            if turn.role == "assistant":
                stop = end_of_text(tokenizer, "Plain")
                segments += [Segment("content", words(turn), True), Segment("markup", stop, True)]
                continue
            segments += [
                IMAGE if isinstance(part, ImageContent) else Segment("content", part)
                for part in written_parts(turn)
            ]
            segments.append(Segment("content", self.separator))
        return segments

    def stop_ids(self, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
        """Return the end-of-text token."""
        warn_of_chat_model("Plain", tokenizer)
        end_of_text(tokenizer, "Plain")
        return [int(tokenizer.eos_token_id)]
