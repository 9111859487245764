"""CIDEr: how much of what people say of an image a caption says."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_vlm.metrics.base import Accepted, AnswerMetric, as_texts
from lit_vlm.metrics.caption_words import caption_words
from lit_vlm.metrics.gathering import NOBODY

_LONGEST = 4  # words of an n-gram
_SIGMA = 6.0  # of the penalty for another length
_SCALE = 10.0
_END = b"\0"  # in no JSON text

Grams = Counter[tuple[str, ...]]


class CIDEr(AnswerMetric):
    """Likeness of captions to people's, in n-grams weighted by how rare they are (CIDEr-D).

    A sample is an image with all its captions as answers. Rare means in few of the data set's
    images, so a figure holds for one set of references, and several images are needed: with one,
    nothing is rare and the score is 0. Published figures are a hundred times these: "125" is 1.25
    here, as pycocoevalcap returns it.

    What ranks exchange are the texts, as bytes.

    Args:
        words: ``simple`` finds words as ``caption_words`` does, which comes near the Penn Treebank
            tokenizer that published figures are made with, and needs no Java; ``whitespace`` takes
            texts that are tokenized already.

    Source:
        CIDEr (Vedantam et al., 2015), https://arxiv.org/abs/1411.5726; CIDEr-D as in
        pycocoevalcap 1.2, https://github.com/salaniz/pycocoevalcap. There, too, the penalty counts
        lengths in bigrams.

    Example:
        >>> metric = CIDEr()
        >>> captions = [["a red circle"], ["a blue square", "a square"]]
        >>> metric.update(["a red circle", "a circle"], captions, [0, 1])
        >>> metric.compute()
        tensor(3.7500)
    """

    name = "cider"
    is_share = False

    indices: Tensor
    texts: Tensor

    def __init__(self, words: Literal["simple", "whitespace"] = "simple") -> None:
        super().__init__()
        self.words = words
        # Something from the start: a rank without samples must have something to gather.
        self.add_state("indices", torch.tensor([NOBODY]), dist_reduce_fx="cat")
        self.add_state("texts", torch.tensor([0], dtype=torch.uint8), dist_reduce_fx="cat")

    def update(
        self,
        generated: Sequence[str],
        answers: Sequence[Accepted],
        indices: Sequence[int],
        questions: Sequence[str] | None = None,
    ) -> None:
        """Add samples; see the base class.

        Raises:
            ValueError: if the lists differ in length, or a sample has no caption.
        """
        kept = bytearray()
        for text, expected, _ in zip(generated, answers, indices, strict=True):
            captions = as_texts(expected)
            if not captions:
                raise ValueError("CIDEr: each sample must have a caption, got none.")
            kept += json.dumps([text, *captions]).encode() + _END
        new = torch.tensor(list(kept), dtype=torch.uint8, device=self.device)
        places = torch.tensor(indices, dtype=torch.long, device=self.device)
        self.texts = torch.cat([self.texts, new])
        self.indices = torch.cat([self.indices, places])

    def compute(self) -> Tensor:
        """Return the mean over images; nan without any."""
        kept = self.texts.cpu().numpy().tobytes().split(_END)
        texts = [json.loads(text) for text in kept if text]
        places = self.indices[self.indices != NOBODY].tolist()
        once = dict(sorted(zip(places, texts, strict=True), key=lambda item: item[0]))
        self.items, self.num_items = list(once), len(once)
        if len(once) == 1:
            rank_zero_warn("CIDEr: one image scores 0, since nothing is rare. Score more images.")
        split = caption_words if self.words == "simple" else str.split
        tokenized = [[split(text) for text in row] for row in once.values()]
        scores = cider_scores([row[0] for row in tokenized], [row[1:] for row in tokenized])
        self.item_scores = {self.name: scores}
        return (
            torch.tensor(scores, dtype=torch.float64, device="cpu")
            .mean()
            .to(self.device, torch.float32)
        )


def cider_scores(
    generated: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
    """Return each image's score.

    Args:
        generated: each image's caption, in words.
        references: each image's captions by people, in words.
    """
    counted = [[_grams(words) for words in captions] for captions in references]
    seen = Counter(gram for captions in counted for gram in set().union(*captions))
    images = math.log(len(references)) if references else 0.0

    def weighed(grams: Grams) -> list[dict[tuple[str, ...], float]]:
        vectors: list[dict[tuple[str, ...], float]] = [{} for _ in range(_LONGEST)]
        for gram, count in grams.items():
            vectors[len(gram) - 1][gram] = count * (images - math.log(max(1, seen[gram])))
        return vectors

    scores = []
    for words, captions in zip(generated, counted, strict=True):
        grams = _grams(words)
        own = weighed(grams)
        alike = [_likeness(own, weighed(other)) * _penalty(grams, other) for other in captions]
        scores.append(_SCALE * sum(alike) / len(alike))
    return scores


def _grams(words: Sequence[str]) -> Grams:
    return Counter(
        tuple(words[i : i + n]) for n in range(1, _LONGEST + 1) for i in range(len(words) - n + 1)
    )


def _likeness(
    one: list[dict[tuple[str, ...], float]], other: list[dict[tuple[str, ...], float]]
) -> float:
    """Return the mean over lengths of the cosine, in which no n-gram counts more than there."""
    total = 0.0
    for mine, theirs in zip(one, other, strict=True):
        norm = math.hypot(*mine.values()) * math.hypot(*theirs.values())
        if norm:
            both = (gram for gram in mine if gram in theirs)
            shared = (min(mine[gram], theirs[gram]) * theirs[gram] for gram in both)
            total += sum(shared) / norm
    return total / len(one)


def _penalty(one: Grams, other: Grams) -> float:
    difference = _bigrams(one) - _bigrams(other)
    return math.exp(-(difference**2) / (2 * _SIGMA**2))


def _bigrams(grams: Grams) -> int:
    return sum(count for gram, count in grams.items() if len(gram) == 2)
