"""Metrics: how right the answers are."""

from lit_vlm.metrics.anls import ANLS
from lit_vlm.metrics.answer_accuracy import AnswerAccuracy, is_correct, normalize_answer
from lit_vlm.metrics.base import AnswerMetric
from lit_vlm.metrics.box_accuracy import BoxAccuracy
from lit_vlm.metrics.cider import CIDEr
from lit_vlm.metrics.exact_match import ExactMatch
from lit_vlm.metrics.multiple_choice import MultipleChoice
from lit_vlm.metrics.pope import POPE
from lit_vlm.metrics.relaxed_accuracy import RelaxedAccuracy
from lit_vlm.metrics.retrieval import RetrievalRecall
from lit_vlm.metrics.scored_answers import ScoredAnswers
from lit_vlm.metrics.vqa_accuracy import VQAAccuracy

__all__ = [
    "ANLS",
    "POPE",
    "AnswerAccuracy",
    "AnswerMetric",
    "BoxAccuracy",
    "CIDEr",
    "ExactMatch",
    "MultipleChoice",
    "RelaxedAccuracy",
    "RetrievalRecall",
    "ScoredAnswers",
    "VQAAccuracy",
    "is_correct",
    "normalize_answer",
]
