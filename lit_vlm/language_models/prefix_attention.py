"""Attention that reads image and prompt in both directions, and answers causally."""

from typing import Any

from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lit_vlm.language_models.token_roles import current_roles

PREFIX = "prefix"
"""Its name among transformers' attention implementations."""


def prefix_mask(
    q_length: int, kv_length: int, q_offset: int = 0, kv_offset: int = 0, **others: Any
) -> Tensor | None:
    """Return which keys (B, 1, Q, K) each query sees: all of the prompt, or what precedes it.

    A token of the prompt, text or image, sees the whole prompt; the first answer and all that
    follows it sees what precedes it, as always. Without roles in force the mask is causal.

    Source:
        PaliGemma's prefix-LM (Beyer et al., 2024), https://arxiv.org/abs/2407.07726.
    """
    place: dict[str, Any] = {"q_length": q_length, "kv_length": kv_length}
    place |= {"q_offset": q_offset, "kv_offset": kv_offset}
    roles = current_roles(kv_offset + kv_length)
    if roles is None:
        return sdpa_mask(**place, **others)
    seen = sdpa_mask(**place, **{**others, "allow_is_causal_skip": False})
    assert seen is not None
    queries = roles.is_prompt[:, None, q_offset : q_offset + q_length, None]
    keys = roles.is_prompt[:, None, None, kv_offset : kv_offset + kv_length]
    return seen | (queries & keys)


def register_prefix() -> None:
    """Make it known to transformers."""
    AttentionInterface.register(PREFIX, sdpa_attention_forward)
    AttentionMaskInterface.register(PREFIX, prefix_mask)
