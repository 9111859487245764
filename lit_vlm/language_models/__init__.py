"""Language models: token embeddings with visual tokens among them to loss, logits and text."""

from lit_vlm.language_models.base import IGNORED, LanguageModel, TokenLoss
from lit_vlm.language_models.causal import CausalLanguageModel
from lit_vlm.language_models.seq2seq import Seq2SeqLanguageModel
from lit_vlm.language_models.text_encoder import TextEncoder
from lit_vlm.language_models.token_roles import TokenRoles

__all__ = [
    "IGNORED",
    "CausalLanguageModel",
    "LanguageModel",
    "Seq2SeqLanguageModel",
    "TextEncoder",
    "TokenLoss",
    "TokenRoles",
]
