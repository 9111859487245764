"""Exact match of generated answers, each sample counted once."""

import unicodedata

from lit_vlm.metrics.scored_answers import ScoredAnswers


def normalize_answer(text: str) -> str:
    """Return a text as answers are compared: lower case, single spaces, no outer punctuation.

    Example:
        >>> normalize_answer("  A red  Circle. ")
        'a red circle'
    """
    words = " ".join(text.lower().split())
    end = len(words)
    while end and _is_punctuation(words[end - 1]):
        end -= 1
    start = 0
    while start < end and _is_punctuation(words[start]) and not _begins_number(words[start:end]):
        start += 1
    return words[start:end]


def is_correct(generated: str, answer: str) -> bool:
    """Whether a generated text equals the answer after ``normalize_answer``.

    An answer of punctuation only is compared as it is, lest everything empty match it.
    """
    wanted = normalize_answer(answer)
    if not wanted:
        return generated.strip() == answer.strip()
    return normalize_answer(generated) == wanted


class AnswerAccuracy(ScoredAnswers):
    """Share of samples whose generated text equals an answer after ``normalize_answer``.

    A sample that several ranks or batches hold counts once.

    Example:
        >>> metric = AnswerAccuracy()
        >>> metric.update(["Red.", "blue"], ["red", "green"], [0, 1])
        >>> metric.compute(), metric.num_items
        (tensor(0.5000), 2)
    """

    name = "accuracy"

    def score(self, generated: str, answers: tuple[str, ...], question: str) -> tuple[float, ...]:
        """Return whether the text equals any of the answers."""
        return (float(any(is_correct(generated, answer) for answer in answers)),)


def _is_punctuation(character: str) -> bool:
    # By category, since the vowel signs of many scripts are no "word" characters to `re`.
    return character in " `" or (unicodedata.category(character)[0] == "P" and character != "%")


def _begins_number(text: str) -> bool:
    digits = text.removeprefix("-").removeprefix(".")
    return digits[:1].isdigit()
