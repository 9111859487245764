"""Multiple choice: which option a text means."""

import re

from lit_vlm.metrics.answer_accuracy import is_correct
from lit_vlm.metrics.scored_answers import ScoredAnswers

_OPTION = re.compile(r"^\s*\(?([A-Z])[.):]\s+(\S.*?)\s*$", re.MULTILINE)
_ALONE = re.compile(r"\W*([A-Za-z])\W*")
_LEADING = re.compile(r"\W*([A-Z])(?:[.):]+\s|\W*\n)")
_BRACKETED = re.compile(r"\(([A-Z])\)")
_STATED = re.compile(r"\b(?i:answer|option|choice)(?:\s+is)?\s*:?\W*([A-Z])\b(?!')")


class MultipleChoice(ScoredAnswers):
    """Share of questions whose generated text names the right option, by its letter or its words.

    Options are read from the question's lines ``A. a dog``, ``(A) a dog`` or ``A) a dog``. A text
    is read as the letter that it is or begins with (``A``, ``(A)``, ``A. a dog``), else the one it
    states (``The answer is A``), else a single one in brackets, else the option whose words it
    equals after ``normalize_answer``. A text that names none is wrong, and so is a letter that no
    option has. Answers in the data are read in the same way.

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

    Example:
        >>> read_options("What is it?" + chr(10) + "(A) a dog" + chr(10) + "(B) a cat")
        {'A': 'a dog', 'B': 'a cat'}
    """
    return dict(_OPTION.findall(question))


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
    if found := _ALONE.fullmatch(text) or _LEADING.match(text) or _STATED.search(text):
        return found[1].upper()
    bracketed = set(_BRACKETED.findall(text))
    return bracketed.pop() if len(bracketed) == 1 else None
