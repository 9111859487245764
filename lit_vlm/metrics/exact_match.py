"""Exact match under a chosen reading of "the same"."""

from typing import Literal

from lit_vlm.metrics.answer_accuracy import is_correct
from lit_vlm.metrics.scored_answers import ScoredAnswers

Reading = Literal["nothing", "case", "full_stop", "punctuation"]


class ExactMatch(ScoredAnswers):
    """Share of samples whose generated text equals one of the answers.

    Args:
        ignore: what does not count. ``nothing``; ``case``, and white space around a text;
            ``full_stop``, the same and full stops at the end; ``punctuation``, the same and
            white space within and all punctuation around it, as in ``AnswerAccuracy``.

    Source:
        ``case``: Qwen-VL (Bai et al., 2023), https://github.com/QwenLM/Qwen-VL,
        ``eval_mm/evaluate_vqa.py``; ``full_stop``: LLaVA-1.5 (Liu et al., 2023),
        https://github.com/haotian-liu/LLaVA, ``scripts/convert_gqa_for_eval.py``.

    Example:
        >>> metric = ExactMatch()
        >>> metric.update(["Red ", "blue."], ["red", "blue"], [0, 1])
        >>> metric.compute()
        tensor(0.5000)
    """

    name = "exact_match"

    def __init__(self, ignore: Reading = "case") -> None:
        super().__init__()
        self.ignore = ignore

    def score(self, generated: str, answers: tuple[str, ...], question: str) -> tuple[float, ...]:
        """Return whether the text equals any of the answers."""
        return (float(any(self._same(generated, answer) for answer in answers)),)

    def _same(self, generated: str, answer: str) -> bool:
        if self.ignore == "punctuation":
            return is_correct(generated, answer)
        return self._read(generated) == self._read(answer)

    def _read(self, text: str) -> str:
        if self.ignore == "nothing":
            return text
        text = text.strip().lower()
        return text.rstrip(".") if self.ignore == "full_stop" else text
