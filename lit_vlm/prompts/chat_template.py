"""The chat template that came with the language model."""

import re
from collections.abc import Sequence
from os.path import commonprefix
from typing import TYPE_CHECKING, Any

from lit_vlm.conversation import ImageContent, Turn
from lit_vlm.prompts.base import (
    IMAGE,
    PromptFormat,
    Segment,
    special_words,
    words,
    written_parts,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A private-use character, which templates pass through and texts do not hold.
_IMAGE_MARK = "\U0010f1a6"
_PROBE = "answer"


class ChatTemplate(PromptFormat):
    """Follow the tokenizer's own chat template to the letter.

    A chat model asked in another format than its own does worse than a base model (VisualChat).
    What is supervised comes from construction: the template is rendered up to each answer and
    then with it, and the difference, up to the token that ends the turn, is what the model
    learns. Templates need no ``{% generation %}`` marks.

    Args:
        variables: values that the template takes, e.g. ``{"enable_thinking": false}``.

    Raises:
        ValueError: when used, if the tokenizer has no template, or its template refuses the
            dialogue, rewrites earlier turns as the dialogue goes on, or ends no answer with a
            special token.

    Source:
        transformers' chat templates; the finding is DeepSpeed-VisualChat's (Yao et al., 2023),
        https://arxiv.org/abs/2309.14327.
    """

    def __init__(self, variables: dict[str, Any] | None = None) -> None:
        self.variables = variables or {}

    def segments(
        self, turns: Sequence[Turn], tokenizer: "PreTrainedTokenizerBase"
    ) -> list[Segment]:
        """Return the segments of a dialogue."""
        special = special_words(tokenizer)
        messages = [_message(turn, special) for turn in turns]
        segments: list[Segment] = []
        done = ""
        for k, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            prompt = self._render(messages[:k], tokenizer, prompt=True)
            whole = self._render(messages[: k + 1], tokenizer, prompt=False)
            segments += _split_images(_continuation(prompt, done))
            answer = _through_end_of_turn(_answer(whole, prompt), words(turn), special)
            segments.append(Segment("markup", answer, supervised=True))
            done = prompt + answer
        if turns and turns[-1].role != "assistant":
            prompt = self._render(messages, tokenizer, prompt=True)
            segments += _split_images(_continuation(prompt, done))
        return segments

    def stop_ids(self, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
        """Return the token with which the template ends an answer, and the end of text."""
        turns = [Turn("user", (_PROBE,)), Turn("assistant", (_PROBE,))]
        answer = self.segments(turns, tokenizer)[-1].text
        stops = [tokenizer(answer, add_special_tokens=False).input_ids[-1]]
        if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in stops:
            stops.append(tokenizer.eos_token_id)
        return stops

    def _render(
        self, messages: list[dict[str, str]], tokenizer: "PreTrainedTokenizerBase", prompt: bool
    ) -> str:
        if not tokenizer.chat_template:
            raise ValueError(
                f"ChatTemplate: the tokenizer {tokenizer.name_or_path!r} must have a chat "
                f"template, got none. It belongs to a base model: use the format Plain."
            )
        from jinja2 import TemplateError

        try:
            return str(
                tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=prompt, **self.variables
                )
            )
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ValueError(
                f"ChatTemplate: the template of {tokenizer.name_or_path!r} refuses turns of "
                f"{roles}: {error}"
            ) from error


def _message(turn: Turn, special: set[str]) -> dict[str, str]:
    for word in (*special, _IMAGE_MARK):
        if word in turn.text:
            raise ValueError(
                f"ChatTemplate: the text of a turn must not hold the special token {word!r}, got "
                f"{turn.text[:60]!r}. It would pass for the end of a turn."
            )
    content = "".join(
        _IMAGE_MARK if isinstance(part, ImageContent) else part for part in written_parts(turn)
    )
    return {"role": turn.role, "content": content}


def _continuation(whole: str, start: str) -> str:
    if not whole.startswith(start):
        raise ValueError(
            f"ChatTemplate: the template must keep what it wrote when a dialogue goes on, but "
            f"{_difference(start, whole)}. Train on one question per sample, or set a variable of "
            f"the template that keeps earlier turns."
        )
    return whole[len(start) :]


def _answer(whole: str, prompt: str) -> str:
    if not whole.startswith(prompt):
        raise ValueError(
            f"ChatTemplate: an answer must follow the template's generation prompt in training as "
            f"it does in generation, but {_difference(prompt, whole)}. Set the template's "
            f"variables (such as enable_thinking: false), or use another template."
        )
    return whole[len(prompt) :]


def _difference(before: str, after: str) -> str:
    same = len(commonprefix([before, after]))
    return f"{before[same : same + 60]!r} became {after[same : same + 60]!r}"


def _through_end_of_turn(answer: str, text: str, special: set[str]) -> str:
    # An answer holds no special word (checked before), so it is in one piece.
    longest_first = sorted(special, key=len, reverse=True)
    any_special = f"({'|'.join(map(re.escape, longest_first))})"
    pieces = re.split(any_special, answer) if special else [answer]
    said = next((i for i, p in enumerate(pieces) if i % 2 == 0 and text.strip() in p), None)
    if said is None:
        raise ValueError(
            f"ChatTemplate: the template must write an answer as it is, but {text[:60]!r} became "
            f"{answer[:60]!r}."
        )
    if said + 1 == len(pieces):
        raise ValueError(
            f"ChatTemplate: the template must end an answer with a special token, got "
            f"{pieces[said][-60:]!r} at its end. The model could not learn to stop."
        )
    return "".join(pieces[: said + 2])


def _split_images(text: str) -> list[Segment]:
    segments: list[Segment] = []
    for i, piece in enumerate(text.split(_IMAGE_MARK)):
        segments += [IMAGE] if i else []
        segments += [Segment("markup", piece)] if piece else []
    return segments
