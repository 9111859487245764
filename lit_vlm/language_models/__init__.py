"""Language models: token embeddings with visual tokens among them to loss, logits and text."""

from lit_vlm.language_models.base import IGNORED, LanguageModel, TokenLoss
from lit_vlm.language_models.causal import CausalLanguageModel

__all__ = ["IGNORED", "CausalLanguageModel", "LanguageModel", "TokenLoss"]
