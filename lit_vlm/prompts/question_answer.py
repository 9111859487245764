"""Questions and answers under plain headings."""

from collections.abc import Sequence
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


class QuestionAnswer(PromptFormat):
    r"""Put a word before each question and each answer.

    For base models, which have read many texts of this form: the word before the answer says that
    one is due. A round reads ``{image}Question: {question}\nAnswer: {answer}{eos}``. The space
    before an answer is learnt with it, since most vocabularies have the two in one token.

    Args:
        question: the word before a question.
        answer: the word before an answer.
        separator: what stands between question and answer, and behind a system turn.
        markers: ``words`` writes the two words in ordinary tokens, ``tokens`` makes each a new
            special token.

    Raises:
        ValueError: if one of the two words is empty or has white space at an end, or they are the
            same; when used, if the tokenizer has no end of text or lacks a new token.

    Source:
        BLIP-2's prompt (Li et al., 2023), https://arxiv.org/abs/2301.12597, which is
        ``separator=" "``.

    Example:
        >>> QuestionAnswer(markers="tokens").new_tokens
        ('Question:', 'Answer:')
    """

    def __init__(
        self,
        question: str = "Question:",
        answer: str = "Answer:",
        separator: str = "\n",
        markers: Markers = "words",
    ) -> None:
        for name, word in {"question": question, "answer": answer}.items():
            if not word or word != word.strip():
                raise ValueError(
                    f"QuestionAnswer: {name} must be a word without white space at its ends, got "
                    f"{word!r}. The format writes a space behind it."
                )
        if question == answer:
            raise ValueError(
                f"QuestionAnswer: question and answer must differ, got {question!r} for both."
            )
        self.question = question
        self.answer = answer
        self.separator = separator
        self.markers = checked_markers("QuestionAnswer", markers)

    @property
    def new_tokens(self) -> tuple[str, ...]:
        """The two words, if they are to be tokens."""
        return (self.question, self.answer) if self.markers == "tokens" else ()

    def segments(
        self, turns: Sequence[Turn], tokenizer: "PreTrainedTokenizerBase"
    ) -> list[Segment]:
        """Return the segments of a dialogue."""
        check_new_tokens(self, tokenizer)
        stop = Segment("markup", end_of_text(tokenizer, "QuestionAnswer"), supervised=True)
        due = marker(self.answer, self.markers)
        segments = begin_of_text(tokenizer)
        system, rest = split_system(turns, "")
        segments.append(Segment("content", system + self.separator if system else ""))
        for turn in rest:
            if turn.role == "assistant":
                segments += [due, Segment("content", f" {words(turn)}", True), stop]
            else:
                images, text = split_images(turn)
                segments += [*[IMAGE] * images, marker(self.question, self.markers)]
                segments.append(Segment("content", f" {text}{self.separator}"))
        if rest and rest[-1].role != "assistant":
            segments.append(due)
        return joined(segments)

    def stop_ids(self, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
        """Return the end-of-text token."""
        warn_of_chat_model("QuestionAnswer", tokenizer)
        end_of_text(tokenizer, "QuestionAnswer")
        return [int(tokenizer.eos_token_id)]
