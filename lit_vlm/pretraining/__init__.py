"""Ways to train a vision encoder before a language model gets it."""

from lit_vlm.pretraining.classification import ClassificationPretraining
from lit_vlm.pretraining.contrastive import ContrastivePretraining
from lit_vlm.pretraining.self_distillation import SelfDistillation
from lit_vlm.pretraining.sigmoid_loss import sigmoid_contrastive_loss
from lit_vlm.pretraining.softmax_loss import softmax_contrastive_loss

__all__ = [
    "ClassificationPretraining",
    "ContrastivePretraining",
    "SelfDistillation",
    "sigmoid_contrastive_loss",
    "softmax_contrastive_loss",
]
