"""Relaxed accuracy: numbers may be a little off."""

import math

from lit_vlm.metrics.scored_answers import ScoredAnswers


class RelaxedAccuracy(ScoredAnswers):
    """Share of samples whose number lies near an answer's, or whose text equals it.

    Numbers are what Python reads as one; a ``%`` behind it divides by 100. If either is no number,
    or the answer is 0, the texts must be equal but for case and white space around them.

    Args:
        tolerance: largest distance from the answer, as a share of the *answer*.

    Raises:
        ValueError: if ``tolerance`` is negative.

    Source:
        ChartQA (Masry et al., 2022), https://arxiv.org/abs/2203.10244, section 5.1, as in
        pix2struct (``metrics.relaxed_correctness``). Qwen-VL's evaluation gives it the two texts in
        the wrong order, and so takes the share of the prediction.

    Example:
        >>> metric = RelaxedAccuracy()
        >>> metric.update(["104.9", "105.1", "5%"], ["100", "100", "0.05"], [0, 1, 2])
        >>> metric.compute()
        tensor(0.6667)
    """

    name = "relaxed_accuracy"

    def __init__(self, tolerance: float | int = 0.05) -> None:
        super().__init__()
        if not tolerance >= 0:
            raise ValueError(f"RelaxedAccuracy: tolerance must be at least 0, got {tolerance}.")
        self.tolerance = tolerance

    def score(self, generated: str, answers: tuple[str, ...], question: str) -> tuple[float, ...]:
        """Return whether the text is near enough to any of the answers."""
        return (float(any(self._near(generated.strip(), a.strip()) for a in answers)),)

    def _near(self, generated: str, answer: str) -> bool:
        number, wanted = _number(generated), _number(answer)
        if number is None or not wanted:
            return generated.lower() == answer.lower()
        return abs(number - wanted) / abs(wanted) <= self.tolerance


def _number(text: str) -> float | None:
    try:
        number = float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
