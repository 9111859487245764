"""ANLS: how few letters are wrong."""

from lit_vlm.metrics.scored_answers import ScoredAnswers


class ANLS(ScoredAnswers):
    """Average normalised Levenshtein similarity to the nearest of the answers.

    ``1 - distance / length of the longer text``, after lower-casing and making white space single;
    below the threshold it counts as 0, so that a wrong answer of like letters gets nothing.

    Args:
        threshold: least similarity that counts. A similarity of just that is kept, as the
            benchmarks' code has it; the paper drops it.

    Raises:
        ValueError: if ``threshold`` is not between 0 and 1.

    Source:
        ST-VQA (Biten et al., 2019), https://arxiv.org/abs/1905.13648, as in DocVQA's evaluation,
        which divides by the length before white space is made single.

    Example:
        >>> metric = ANLS()
        >>> metric.update(["abxx", "axxx"], ["ABCD", "abcd"], [0, 1])
        >>> metric.compute()
        tensor(0.2500)
    """

    name = "anls"

    def __init__(self, threshold: float | int = 0.5) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(f"ANLS: threshold must lie between 0 and 1, got {threshold}.")
        self.threshold = threshold

    def score(self, generated: str, answers: tuple[str, ...], question: str) -> tuple[float, ...]:
        """Return the similarity to the nearest answer, or 0 if none is near enough."""
        text = _plain(generated)
        best = max(_similarity(text, _plain(answer)) for answer in answers)
        return (best if best >= self.threshold else 0.0,)


def edit_distance(one: str, other: str) -> int:
    """Return how many letters must be changed, added or taken away to make one text the other.

    Example:
        >>> edit_distance("kitten", "sitting")
        3
    """
    row = list(range(len(other) + 1))
    for above, letter in enumerate(one):
        diagonal, row[0] = row[0], above + 1
        for place, wanted in enumerate(other):
            changed = diagonal + (letter != wanted)
            diagonal = row[place + 1]
            row[place + 1] = min(changed, diagonal + 1, row[place] + 1)
    return row[-1]


def _similarity(one: str, other: str) -> float:
    longer = max(len(one), len(other))
    return 1 - edit_distance(one, other) / longer if longer else 1.0


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
