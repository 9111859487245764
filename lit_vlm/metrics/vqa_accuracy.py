"""VQA accuracy: how many of ten people gave the answer."""

from typing import Literal

from lit_vlm.metrics.scored_answers import ScoredAnswers
from lit_vlm.metrics.vqa_normalization import normalize_vqa_answer, strip_breaks

_AGREEING = 3


class VQAAccuracy(ScoredAnswers):
    """Mean over samples of how well people agree with the generated answer.

    An answer is worth ``min(1, matches / 3)`` among nine of ten people's answers, averaged over who
    is left out: 0.3 for one match among the ten, 0.6 for two, 0.9 for three, 1 for more. With four
    or more answers the rule is the same; with two or three, what all the others said is worth 1;
    with one, the answer is right or wrong.

    Args:
        normalize: ``official`` compares texts as they are, save for white space around them, where
            several people all gave the same answer: "Yes" is wrong if ten people said "yes".
            ``always`` normalises there too, as lmms-eval does.

    Source:
        VQA (Antol et al., 2015), https://github.com/GT-Vision-Lab/VQA, ``vqaEval.py``; it knows
        ten answers only, fewer are ours.

    Example:
        >>> metric = VQAAccuracy()
        >>> metric.update(["A dog."], [["dog"] * 3 + ["cat"] * 7], [0])
        >>> metric.compute()
        tensor(0.9000)
    """

    name = "vqa_accuracy"

    def __init__(self, normalize: Literal["official", "always"] = "official") -> None:
        super().__init__()
        self.normalize = normalize

    def score(self, generated: str, answers: tuple[str, ...], question: str) -> tuple[float, ...]:
        """Return what the answer is worth, between 0 and 1."""
        stripped = [strip_breaks(answer) for answer in answers]
        unanimous = len(stripped) > 1 and len(set(stripped)) == 1
        if unanimous and self.normalize == "official":
            matches = len(stripped) * (strip_breaks(generated) == stripped[0])
        else:
            text = normalize_vqa_answer(generated)
            matches = sum(normalize_vqa_answer(answer) == text for answer in stripped)
        return (_agreement(matches, len(stripped)),)


def _agreement(matches: int, people: int) -> float:
    """Return the mean over who is left out of ``min(1, matches among the others / 3)``."""
    if people == 1:
        return float(matches)
    wanted = min(_AGREEING, people - 1)
    left_out = matches * min(1.0, (matches - 1) / wanted)
    return (left_out + (people - matches) * min(1.0, matches / wanted)) / people
