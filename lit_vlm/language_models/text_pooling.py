"""The tokens of a text to one vector."""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

Pooling = Literal["eos", "last", "first", "mean"]
"""What becomes a text's vector: its end token, the last place of the padded row, its first token
(BERT's class token), or the mean of its tokens."""


def pool_text(
    tokens: Float[Tensor, "C T D"], attention_mask: Int[Tensor, "C T"], pooling: Pooling
) -> Float[Tensor, "C D"]:
    """Return one vector for each text.

    Args:
        tokens: what the network made of the tokens, padded on the right.
        attention_mask: 1 for tokens, 0 for padding. A text's end token is the last with a 1, so
            nothing depends on its number (transformers looks for the highest in old CLIP configs).
        pooling: see ``Pooling``.

    Example:
        >>> tokens = torch.tensor([[[1.0], [2.0], [9.0]]])
        >>> mask = torch.tensor([[1, 1, 0]])
        >>> [pool_text(tokens, mask, how).item() for how in ("eos", "last", "first", "mean")]
        [2.0, 9.0, 1.0, 1.5]
    """
    if pooling == "eos":
        end = attention_mask.sum(1) - 1
        return tokens[torch.arange(len(tokens), device=tokens.device), end]
    if pooling == "mean":
        weights = attention_mask[:, :, None].to(tokens.dtype)
        return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)
    return tokens[:, -1] if pooling == "last" else tokens[:, 0]


def check_pooling(pooling: str | None) -> None:
    """Raise ``ValueError`` if it is no way of pooling; None is left to the network."""
    if pooling is not None and pooling not in get_args(Pooling):
        raise ValueError(
            f"TextEncoder: pooling must be one of {', '.join(get_args(Pooling))}, got {pooling!r}."
        )
