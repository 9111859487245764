"""Multiple choice: which option a text means."""

import re

from lit_vlm.metrics.answer_accuracy import is_correct
from lit_vlm.metrics.scored_answers import ScoredAnswers

_OPTION = re.compile(
    r"(?:^\s*|\b(?i:options|choices):\s*)\(?([A-Z])[.):]\s+(\S.*?)\s*$", re.MULTILINE
)
_ALONE = re.compile(r"\W*([A-Za-z])\W*")
_UNLESS_WRONG = r"(?!\W*\s(?i:is\s+(?:not|wrong|incorrect|false)|isn't|cannot|can't)\b)"
_LEADING = re.compile(rf"\W*([A-Z])\b{_UNLESS_WRONG}(?:[.):]+\s|\W*\n)(?!\s*(?:or|and)\b)")
_BRACKETED = re.compile(rf"\(([A-Z])\){_UNLESS_WRONG}")
_LETTER = (
    r"(?:\s+is)?\s*:?\W*(?:(?i:option|choice)\W+)?([A-Z])\b(?!')"
    rf"{_UNLESS_WRONG}(?:\W+(?:or|and)\W+(?:(?i:option|choice)\W+)?"
    r"([A-HJ-Z])\b(?!'))?"  # not the I of "and I am sure"
)
_ANSWER = re.compile(rf"\b(?i:answer){_LETTER}")
_CHOSEN = re.compile(rf"\b(?i:option|choice){_LETTER}")


class MultipleChoice(ScoredAnswers):
    """Share of questions whose generated text names the right option, by its letter or its words.

    Options are read from the question's lines ``A. a dog``, ``(A) a dog`` or ``A) a dog``. A text
    is read as the letter that it is or begins with (``A``, ``(A)``, ``A. a dog``), else the one it
    states (``The answer is A`` before ``option A``, unless that ``is wrong``), else a single one in
    brackets, else the option whose words it equals after ``normalize_answer``. A text that names
    none or several (``(A) or (B)``) is wrong, and so is a letter that no option has. Answers in the
    data are read in the same way.

    Raises:
        ValueError: on ``update``, if an answer in the data names no option.

    Source:
        ScienceQA (Lu et al., 2022), https://arxiv.org/abs/2209.09513; LLaVA's evaluation reads
        ``A``, ``A. ...`` and ``The answer is A.`` only.

    Example:
        >>> metric = MultipleChoice()
        >>> question = "What is it?" + chr(10) + "A. a dog" + chr(10) + "B. a cat"
        >>> metric.update(["(B)", "A dog.", "C"], ["B", "A", "A"], [0, 1, 2], [question] * 3)
        >>> metric.compute()
        tensor(0.6667)
    """

    name = "multiple_choice"

    def score(self, generated: str, answers: tuple[str, ...], question: str) -> tuple[float, ...]:
        """Return whether the text names an option that an answer names."""
        options = read_options(question)
        wanted = {read_choice(answer, options) for answer in answers}
        if None in wanted:
            known = "".join(options) or "none"
            raise ValueError(
                f"MultipleChoice: an answer in the data must name an option, got {answers[0]!r} "
                f"for the options {known}. Write options as lines such as 'A. a dog' of the "
                f"question, or give the metric to the source that has them."
            )
        return (float(read_choice(generated, options) in wanted),)


def read_options(question: str) -> dict[str, str]:
    """Return the options that the lines of a question give, by their letters.

    The first may stand behind ``Options:``. Fewer than two are none: they may all be in one line.

    Example:
        >>> read_options("What is it?" + chr(10) + "(A) a dog" + chr(10) + "(B) a cat")
        {'A': 'a dog', 'B': 'a cat'}
    """
    found = dict(_OPTION.findall(question))
    return found if len(found) > 1 else {}


def read_choice(text: str, options: dict[str, str]) -> str | None:
    """Return the letter of the option that a text names; None if it names none.

    Args:
        text: an answer.
        options: their words by letter; empty if they are not known, and any letter will do.

    Example:
        >>> read_choice("The answer is (B).", {}), read_choice("a dog", {"A": "A dog"})
        ('B', 'A')
    """
    letter = _read_letter(text)
    if letter is not None and (not options or letter in options):
        return letter
    named = [known for known, words in options.items() if is_correct(text, words)]
    return named[0] if len(named) == 1 else None


def _read_letter(text: str) -> str | None:
    if alone := _ALONE.fullmatch(text):
        return alone[1].upper()
    answer, bracketed = _stated(_ANSWER, text), set(_BRACKETED.findall(text))
    if leading := _LEADING.match(text):
        others = bracketed | answer | {letter for letter, _ in _OPTION.findall(text)}
        if others <= {leading[1]}:
            return leading[1]
        answer |= {leading[1]} if answer else set()
    letters = answer or _stated(_CHOSEN, text) or bracketed
    return letters.pop() if len(letters) == 1 else None


def _stated(statement: re.Pattern[str], text: str) -> set[str]:
    """Return the letters that a text states, those after "or" among them."""
    return {letter for found in statement.findall(text) for letter in found if letter}
