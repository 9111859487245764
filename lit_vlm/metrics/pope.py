"""POPE: does the model see objects that are not there?"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lit_vlm.metrics.scored_answers import ScoredAnswers

_NEGATIONS = {"no", "No", "not"}


class POPE(ScoredAnswers):
    """Accuracy, precision, recall and F1 of yes-or-no answers, and how often "yes" is said.

    "Yes" is what is looked for. A ratio without a denominator is 0. ``pope_yes_ratio`` is that of
    the generated answers: far above the share of "yes" in the data (one half in POPE), it shows a
    model that agrees with whatever it is asked.

    Args:
        parser: how a generated text is read. ``first_sentence``: no, if a word before the first
            full stop is "no", "No" or "not", and yes otherwise. ``exact``: the text must be "yes"
            or "no", but for case and white space around it; any other is wrong.

    Raises:
        ValueError: on ``update``, if an answer in the data is neither "yes" nor "no".

    Source:
        POPE (Li et al., 2023), https://arxiv.org/abs/2305.10355. ``first_sentence``: LLaVA-1.5,
        https://github.com/haotian-liu/LLaVA, ``llava/eval/eval_pope.py``; ``exact``: lmms-eval,
        ``tasks/pope/utils.py``, which leaves unreadable texts out of its recall, and whose yes
        ratio counts the data's answers.

    Example:
        >>> metric = POPE()
        >>> metric.update(["Yes, there is.", "Yes."], ["yes", "no"], [0, 1])
        >>> metric.figures()["pope_accuracy"], metric.figures()["pope_yes_ratio"]
        (0.5, 1.0)
    """

    name = "pope"
    columns = ("pope_accuracy", "pope_yes_ratio", "is_yes")

    def __init__(self, parser: Literal["first_sentence", "exact"] = "first_sentence") -> None:
        super().__init__()
        self.parser = parser

    def score(self, generated: str, answers: tuple[str, ...], question: str) -> tuple[float, ...]:
        """Return whether the text is right, whether it says yes, and whether it should."""
        wanted = answers[0].strip().lower().removesuffix(".")
        if wanted not in ("yes", "no"):
            raise ValueError(
                f"POPE: an answer in the data must be yes or no, got {answers[0]!r}. Give the "
                f"metric to the source whose answers are."
            )
        read = _first_sentence(generated) if self.parser == "first_sentence" else _exact(generated)
        return (float(read == wanted), float(read == "yes"), float(wanted == "yes"))

    def summary(self, rows: Float[Tensor, "N K"]) -> dict[str, Tensor]:
        """Return the five figures."""
        self.item_scores.pop("is_yes")
        right, said, is_yes = rows.unbind(1)
        hits = (said * is_yes).sum()
        precision, recall = _ratio(hits, said.sum()), _ratio(hits, is_yes.sum())
        return {
            "pope_accuracy": right.mean(),
            "pope_precision": precision,
            "pope_recall": recall,
            "pope_f1": _ratio(2 * precision * recall, precision + recall),
            "pope_yes_ratio": said.mean(),
        }


def _first_sentence(text: str) -> str:
    words = text.partition(".")[0].replace(",", "").split(" ")
    return "yes" if _NEGATIONS.isdisjoint(words) else "no"


def _exact(text: str) -> str:
    return text.strip().lower()


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part / whole if whole else torch.zeros_like(whole)
