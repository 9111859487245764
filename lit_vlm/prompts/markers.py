"""What stands between the words of a dialogue: ordinary words, or tokens of its own."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from lit_vlm.conversation import ImageContent, Turn
from lit_vlm.prompts.base import PromptFormat, Segment, special_words, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Markers = Literal["words", "tokens"]
_KINDS: dict[Markers, Literal["content", "markup"]] = {"words": "content", "tokens": "markup"}


def checked_markers(who: str, markers: str) -> Markers:
    """Return the choice of markers, or refuse one that there is not."""
    for kind in _KINDS:
        if markers == kind:
            return kind
    raise ValueError(f"{who}: markers must be 'words' or 'tokens', got {markers!r}.")


def marker(text: str, markers: Markers) -> Segment:
    """Return a marker, which reads the same as words or as one token."""
    return Segment(_KINDS[markers], text)


def check_new_tokens(prompt: PromptFormat, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise if the tokenizer lacks a special token of the format.

    Raises:
        ValueError: if so; the message names those that are missing.
    """
    wanted = prompt.new_tokens
    known = special_words(tokenizer) if wanted else set()
    missing = [token for token in wanted if token not in known]
    if missing:
        raise ValueError(
            f"{type(prompt).__name__}: the tokenizer must have the special tokens "
            f"{', '.join(map(repr, wanted))}, got one without {', '.join(map(repr, missing))}. The "
            f"model adds them when it is made with this prompt; else add them with "
            f"tokenizer.add_tokens(..., special_tokens=True), or set markers to 'words'."
        )


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """Join neighbouring words that are both supervised or both not, and leave empty ones out.

    A border between segments is one between tokens; many vocabularies have one token for a
    question mark and the line break after it, or for a space and the word after it.
    """
    done: list[Segment] = []
    for segment in segments:
        last = done[-1] if done else None
        if segment.kind == "content" and not segment.text:
            continue
        if last and last.kind == segment.kind == "content":
            if last.supervised == segment.supervised:
                done[-1] = Segment("content", last.text + segment.text, last.supervised)
                continue
        done.append(segment)
    return done


def split_system(turns: Sequence[Turn], default: str) -> tuple[str, Sequence[Turn]]:
    """Return the system's words, the dialogue's own before the default, and the other turns."""
    if turns and turns[0].role == "system":
        return words(turns[0]), turns[1:]
    return default, turns


def split_images(turn: Turn) -> tuple[int, str]:
    """Return the number of a turn's images, and its words.

    Where images are taken out, the white space at both ends of the words goes with them: data in
    LLaVA's form keeps an image apart from the question by a line break.
    """
    images = sum(isinstance(part, ImageContent) for part in turn.content)
    text = words(turn)
    return images, text.strip() if images else text
