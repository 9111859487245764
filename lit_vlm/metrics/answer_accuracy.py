"""Exact match of generated answers, each sample counted once."""

import unicodedata
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

_NOBODY = -1


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


class AnswerAccuracy(Metric):
    """Share of samples whose generated text equals the answer after ``normalize_answer``.

    Texts are compared on the rank that generated them; what is synchronised are pairs of sample
    and score. A sample that several ranks or batches hold counts once.

    Example:
        >>> metric = AnswerAccuracy()
        >>> metric.update(["Red.", "blue"], ["red", "green"], [0, 1])
        >>> metric.compute(), metric.num_samples
        (tensor(0.5000), 2)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    indices: Tensor
    scores: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dist_sync_fn": _gather_padded, **kwargs})
        # One entry from the start: a rank without samples must have something to gather.
        self.add_state("indices", torch.tensor([_NOBODY]), dist_reduce_fx="cat")
        # The type is named, since half precisions change the default, which counts to 256 only.
        self.add_state("scores", torch.tensor([0.0], dtype=torch.float32), dist_reduce_fx="cat")

    def update(
        self, generated: Sequence[str], answers: Sequence[str], indices: Sequence[int]
    ) -> None:
        """Add samples.

        Args:
            generated: texts that the model wrote.
            answers: texts in the data.
            indices: each sample's place in the data set, not negative.
        """
        scores = [float(is_correct(g, a)) for g, a in zip(generated, answers, strict=True)]
        places = torch.tensor(indices, dtype=torch.long, device=self.device)
        self.indices = torch.cat([self.indices, places])
        new = torch.tensor(scores, dtype=torch.float32, device=self.device)
        self.scores = torch.cat([self.scores, new])

    def compute(self) -> Tensor:
        """Return the accuracy between 0 and 1; nan without samples."""
        unique, inverse = torch.unique(self.indices, return_inverse=True)
        score = torch.zeros(len(unique), dtype=torch.float32, device=self.device)
        score[inverse] = self.scores
        counted = unique != _NOBODY
        self.num_samples = int(counted.sum())
        return score[counted].mean()


def _gather_padded(values: Tensor, group: Any = None) -> list[Tensor]:
    # torchmetrics stacks what it gathers, but ranks hold different numbers of samples.
    gathered = gather_all_tensors(values, group)
    longest = max(len(each) for each in gathered)
    return [pad(each, (0, longest - len(each)), value=_NOBODY) for each in gathered]


def _is_punctuation(character: str) -> bool:
    # By category, since the vowel signs of many scripts are no "word" characters to `re`.
    return character in " `" or (unicodedata.category(character)[0] == "P" and character != "%")


def _begins_number(text: str) -> bool:
    digits = text.removeprefix("-").removeprefix(".")
    return digits[:1].isdigit()
