"""Metrics: how right the answers are."""

from lit_vlm.metrics.answer_accuracy import AnswerAccuracy, is_correct, normalize_answer
from lit_vlm.metrics.retrieval import RetrievalRecall

__all__ = ["AnswerAccuracy", "RetrievalRecall", "is_correct", "normalize_answer"]
