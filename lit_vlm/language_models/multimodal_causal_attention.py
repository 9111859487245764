"""DeepSpeed-VisualChat's attention: text attends to text and to images by two softmaxes."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lit_vlm.language_models.token_roles import current_roles

MULTIMODAL_CAUSAL = "multimodal_causal"
"""Its name among transformers' attention implementations."""

PUBLISHED = "multimodal_causal_published"
"""The name of the variant that the published code computes."""


def multimodal_causal_mask(
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    published: bool = False,
    **others: Any,
) -> Tensor | None:
    """Return which keys (B, 2, Q, K) each query sees, by its first and by its second softmax.

    A visual token sees itself alone. A text token sees the text up to itself by its first softmax,
    and the visual tokens of all images before it by its second; where there are none, the second
    contributes nothing. Without visual tokens the mask is the causal one, (B, 1, Q, K) or None.

    Args:
        q_length: number of queries.
        kv_length: number of keys.
        q_offset: place of the first query.
        kv_offset: place of the first key.
        published: what the published code computes instead of what the paper draws. There a visual
            token also sees the text before it by a second softmax; and where no image precedes a
            text token, its second softmax is an even mean over the text up to itself and all
            images that FOLLOW: a leak from the future, which generation cannot reproduce.
        others: what transformers gives to ``sdpa_mask``.

    Source:
        DeepSpeed-VisualChat (Yao et al., 2023), https://arxiv.org/abs/2309.14327, figure 4.
    """
    place: dict[str, Any] = {"q_length": q_length, "kv_length": kv_length}
    place |= {"q_offset": q_offset, "kv_offset": kv_offset}
    roles = current_roles(kv_offset + kv_length)
    if roles is None or not roles.is_visual.any():
        return sdpa_mask(**place, **others)
    seen = sdpa_mask(**place, **{**others, "allow_is_causal_skip": False})
    assert seen is not None
    visual_keys = roles.is_visual[:, None, None, kv_offset : kv_offset + kv_length]
    visual_queries = roles.is_visual[:, None, q_offset : q_offset + q_length, None]
    is_self = _is_self(seen, q_offset - kv_offset)
    # A query at padding would see nothing at all; itself is as good as nothing, and no NaN.
    first = torch.where(visual_queries, is_self, (seen & ~visual_keys) | is_self)
    second = seen & visual_keys & ~visual_queries
    if not published:
        return torch.cat([first, second], dim=1)
    return _as_published(first, second, seen, visual_queries, visual_keys)


def multimodal_causal_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend by two softmaxes and add what they give; by one where the mask has one.

    The roles are in the mask, which a recomputed block gets again, so nothing else is needed in
    the backward pass.
    """
    if attention_mask is None or attention_mask.shape[1] == 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    first, second = attention_mask[:, :1], attention_mask[:, 1:]
    if second.dtype != torch.bool:
        first, second = (_in_type(part, query.dtype) for part in (first, second))
    sees = second if second.dtype == torch.bool else second > -torch.inf
    sees_any = sees.any(dim=-1, keepdim=True)  # (B, 1, Q, 1)
    # A softmax over nothing is NaN on some devices: let such a row see all, and drop what it saw.
    whole = torch.where(sees_any, second, torch.ones_like(second))
    text, _ = sdpa_attention_forward(module, query, key, value, first, **others)
    images, _ = sdpa_attention_forward(module, query, key, value, whole, **others)
    return text + images * sees_any.transpose(1, 2).to(images.dtype), None  # (B, Q, heads, D)


def register_multimodal_causal() -> None:
    """Make it known to transformers, whose models then run it unchanged."""
    for name, is_published in ((MULTIMODAL_CAUSAL, False), (PUBLISHED, True)):
        AttentionInterface.register(name, multimodal_causal_attention)
        AttentionMaskInterface.register(
            name, partial(multimodal_causal_mask, published=is_published)
        )


def _in_type(mask: Tensor, dtype: torch.dtype) -> Tensor:
    drowned = torch.isfinite(mask) & (mask < 0)
    return mask.to(dtype).masked_fill(drowned, torch.finfo(dtype).min)


def _is_self(seen: Bool[Tensor, "B 1 Q K"], offset: int) -> Bool[Tensor, "Q K"]:
    queries = torch.arange(seen.shape[-2], device=seen.device)[:, None] + offset
    return queries == torch.arange(seen.shape[-1], device=seen.device)


def _as_published(
    first: Bool[Tensor, "B 1 Q K"],
    second: Bool[Tensor, "B 1 Q K"],
    seen: Bool[Tensor, "B 1 Q K"],
    visual_queries: Bool[Tensor, "B 1 Q 1"],
    visual_keys: Bool[Tensor, "B 1 1 K"],
) -> Tensor:
    second = torch.where(visual_queries, seen & ~visual_keys, second)
    is_empty = ~second.any(dim=-1, keepdim=True) & ~visual_queries
    # The published masks add the least finite number, in which scores drown: an even mean.
    leaked = is_empty & torch.where(visual_keys, ~seen, seen)
    both = torch.cat([first, second], dim=1)
    mask = torch.zeros(both.shape, dtype=torch.float32, device=both.device).masked_fill(
        ~both, -torch.inf
    )
    mask[:, 1:] = mask[:, 1:].masked_fill(leaked, torch.finfo(torch.float32).min)
    return mask
