"""What a linter of dialogues finds: the kinds of problems, by name, and one problem."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "info"]

_ERRORS = {
    "broken_line": "a line that is no JSON, or a list that breaks off",
    "no_samples": "a file without samples",
    "wrong_type": "a value of another type than the form has",
    "string_for_list": "a string where a list belongs",
    "list_for_string": "a list where a string belongs",
    "no_dialogue": "neither conversations nor messages, or no turn in them",
    "unknown_role": "a turn of somebody unknown",
    "misordered_roles": "turns that are not user and assistant in alternation",
    "too_few_images": "more places for images than images",
    "too_many_images": "more images than places for them",
    "image_outside_question": "an image in an answer or a system turn",
    "broken_text": "half of a surrogate pair in a text",
    "empty_answer": "an answer without words",
    "no_answer": "a question and no answer, among samples that have answers",
    "duplicate_id": "an id that an earlier sample of the file has",
    "box_count": "another number of <bbox> than of boxes",
    "box_inverted": "a box that ends where it begins, or before",
    "box_outside": "a box that reaches out of its picture",
    "missing_image": "an image that is not there",
    "corrupt_image": "an image that cannot be read whole",
    "image_in_test": "an image that the test files show, too",
    "visual_cut": "visual tokens behind the length limit",
    "answer_cut_away": "a first answer behind the length limit",
    "refused": "what the reader or the model refuses for another reason",
}
_WARNINGS = {
    "bare_images": "'images' is one string, which other readers take letter by letter",
    "two_forms": "both conversations and messages, of which the latter is passed over",
    "empty_answers": "'answers' without any, so that the last turn alone is compared with",
    "trailing_question": "a last question without an answer, which training passes over",
    "empty_question": "a question with neither words nor an image",
    "surplus_space": "an answer with white space at its ends, which is learnt too",
    "box_text": "a <box> in a text that is no box of thousandths, and is learnt as words",
    "long_answer": "an answer with more words than --max_answer_words",
    "truncated": "a sample of which the length limit cuts text off",
    "extreme_image": "an image that is very small, very large or very narrow",
    "contradiction": "the same images and words as an earlier sample, and another answer",
}
_INFOS = {
    "missing_id": "a sample without an id, which gets its place for one",
    "repeated_sample": "the same images and words as an earlier sample, and the same answer",
    "same_image": "the same picture under another path",
}

ABOUT = _ERRORS | _WARNINGS | _INFOS
"""What each kind of problem is, by its name, in the order of reports."""


def severity_of(kind: str) -> Severity:
    """Return how bad a kind of problem is.

    An error is what training or evaluation refuses, or what makes them wrong for certain; a
    warning is read, and probably not what was meant; the rest is for your information.

    Example:
        >>> severity_of("empty_answer"), severity_of("long_answer"), severity_of("missing_id")
        ('error', 'warning', 'info')
    """
    if kind in _ERRORS:
        return "error"
    return "warning" if kind in _WARNINGS else "info"


class Finding(NamedTuple):
    """What is wrong with a sample, wherever that stands.

    Attributes:
        kind: a key of ``ABOUT``.
        message: what must hold and what was got.
    """

    kind: str
    message: str

    @property
    def is_error(self) -> bool:
        """Whether the sample cannot be used as it is."""
        return severity_of(self.kind) == "error"


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding and its place.

    Attributes:
        kind: a key of ``ABOUT``.
        file: the file.
        line: the line that the sample begins in, from 1; 0 for the file as a whole.
        index: the sample's place among those that can be decoded, from 0; -1 if it is none.
        id: the sample's id; empty if there is no telling.
        message: what must hold and what was got.
    """

    kind: str
    file: str
    line: int
    index: int
    id: str
    message: str

    @property
    def place(self) -> str:
        """Where it is, in short."""
        return place_of(self.line, self.index, self.id)


def place_of(line: int, index: int, id: str) -> str:
    """Return where a sample is, in short; its index where the line does not tell it.

    Example:
        >>> place_of(3, 2, "cat"), place_of(1, 2, "cat"), place_of(4, -1, "")
        ('line 3 (cat)', 'line 1, index 2 (cat)', 'line 4')
    """
    where = f"line {line}" if line else "the file"
    if index >= 0 and index != line - 1:
        where += f", index {index}"
    return f"{where} ({id})" if id else where
