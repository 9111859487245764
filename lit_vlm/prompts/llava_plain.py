"""LLaVA's first stage: pictures and captions."""

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

_END = "\n"


class LLaVAPlain(PromptFormat):
    r"""Write images and answers alone, ``{image}{answer}\n``: LLaVA's ``plain``.

    For a stage that trains the connector on captions: what is asked, and a system turn, are thrown
    away, so that visual tokens alone must tell the caption. The line break is learnt and ends it;
    use another format afterwards, whose answers may have several lines.

    Raises:
        ValueError: when used for generation, if the tokenizer has neither a token for a line break
            nor an end of text.

    Source:
        LLaVA (Liu et al., 2023), https://github.com/haotian-liu/LLaVA, ``conv_llava_plain`` and
        ``preprocess_plain``.
    """

    def segments(
        self, turns: Sequence[Turn], tokenizer: "PreTrainedTokenizerBase"
    ) -> list[Segment]:
        """Return the segments of a dialogue."""
        segments = begin_of_text(tokenizer)
        for turn in turns:
            if turn.role == "assistant":
                segments.append(Segment("content", words(turn) + _END, supervised=True))
            else:
                parts = written_parts(turn)
                segments += [IMAGE for part in parts if isinstance(part, ImageContent)]
        return segments

    def stop_ids(self, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
        """Return the token of a line break, if it is one token, and the end of text."""
        warn_of_chat_model("LLaVAPlain", tokenizer)
        # Behind a word, since some tokenizers put a space before whatever they begin with.
        ids = [tokenizer(text, add_special_tokens=False).input_ids for text in ("a", f"a{_END}")]
        stops = ids[1][len(ids[0]) :] if ids[1][: len(ids[0])] == ids[0] else []
        if len(stops) != 1:
            end_of_text(tokenizer, "LLaVAPlain")
            stops = []
        if tokenizer.eos_token_id is not None:
            stops.append(tokenizer.eos_token_id)
        return [int(stop) for stop in stops]
