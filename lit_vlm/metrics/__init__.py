"""Metrics: how right the answers are."""

from lit_vlm.metrics.answer_accuracy import AnswerAccuracy, is_correct, normalize_answer

__all__ = ["AnswerAccuracy", "is_correct", "normalize_answer"]
