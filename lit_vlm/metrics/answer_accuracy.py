"""Exact match of generated answers, each sample counted once."""

import unicodedata
from collections.abc import Sequence

import torch

from lit_vlm.metrics.item_mean import ItemMean


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


class AnswerAccuracy(ItemMean):
    """Share of samples whose generated text equals the answer after ``normalize_answer``.

    Texts are compared on the rank that generated them; what is synchronised are pairs of sample
    and score. A sample that several ranks or batches hold counts once.

    Example:
        >>> metric = AnswerAccuracy()
        >>> metric.update(["Red.", "blue"], ["red", "green"], [0, 1])
        >>> metric.compute(), metric.num_items
        (tensor(0.5000), 2)
    """

    higher_is_better = True

    def update(  # type: ignore[override]  # texts in, scores kept
        self, generated: Sequence[str], answers: Sequence[str], indices: Sequence[int]
    ) -> None:
        """Add samples.

        Args:
            generated: texts that the model wrote.
            answers: texts in the data.
            indices: each sample's place in the data set, not negative.
        """
        scores = [float(is_correct(g, a)) for g, a in zip(generated, answers, strict=True)]
        super().update(torch.tensor(scores), torch.tensor(indices, dtype=torch.long))


def _is_punctuation(character: str) -> bool:
    # By category, since the vowel signs of many scripts are no "word" characters to `re`.
    return character in " `" or (unicodedata.category(character)[0] == "P" and character != "%")


def _begins_number(text: str) -> bool:
    digits = text.removeprefix("-").removeprefix(".")
    return digits[:1].isdigit()
