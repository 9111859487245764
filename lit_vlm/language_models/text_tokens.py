"""Texts to rows of tokens, for encoders of text."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from tokenizers.processors import Sequence as Processors
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerBase


class TextTokens(NamedTuple):
    """Texts as tokens.

    Attributes:
        input_ids: tokens, padded on the right.
        attention_mask: 1 for tokens, 0 for padding.
        num_cut: number of texts that were too long, and lack what stood before their end token.
    """

    input_ids: Int[Tensor, "C T"]
    attention_mask: Int[Tensor, "C T"]
    num_cut: int


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, fill: bool
) -> TextTokens:
    """Return the tokens of texts, each with its end token, also where a text was cut.

    Args:
        tokenizer: closes each text by an end token, see ``closing``.
        texts: the texts; an empty one is its end token alone.
        max_length: most tokens of a text.
        fill: whether to pad to ``max_length``, and not to the longest text.

    Example:
        >>> from lit_vlm.language_models.tokenizers import train_bpe
        >>> tokenizer = closing(train_bpe(["aa"], vocab_size=258))
        >>> encode_texts(tokenizer, ["aa", "aaaa"], max_length=4, fill=False).input_ids.shape
        torch.Size([2, 4])
    """
    encode: Any = tokenizer
    rows: list[list[int]] = encode(list(texts), verbose=False).input_ids if len(texts) else []
    # The last token closes the text: it is what some networks pool, so it is never cut.
    cut = [row if len(row) <= max_length else [*row[: max_length - 1], row[-1]] for row in rows]
    width = max_length if fill else max((len(row) for row in cut), default=1)
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    ids = torch.full((len(cut), width), int(padding or 0), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(cut):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return TextTokens(ids, mask, sum(len(row) > max_length for row in rows))


def closing(tokenizer: PreTrainedTokenizerBase, opens: bool = False) -> PreTrainedTokenizerBase:
    """Let a tokenizer close each text by its end token, unless it does so.

    Args:
        tokenizer: is changed.
        opens: whether the texts shall also begin with such a token, to be pooled.

    Raises:
        ValueError: if it has no end token, or cannot be taught.
    """
    before, after = _added(tokenizer)
    ends = {tokenizer.eos_token_id, tokenizer.sep_token_id}
    begins = {tokenizer.bos_token_id, tokenizer.cls_token_id} | ends  # or as made here
    is_closed = bool(after) and after[-1] in ends
    is_open = not opens or (bool(before) and before[0] in begins)
    if is_closed and is_open:
        return tokenizer
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if end is None or backend is None:
        raise ValueError(
            f"TextEncoder: the tokenizer must close each text by an end token, got a "
            f"{type(tokenizer).__name__} that does not, and has none. Name one that has."
        )
    template = _template(
        tokenizer,
        before if is_open else [end, *before],
        after if is_closed else [*after, end],
    )
    # Of two processors that add tokens, one is passed over: here the new one adds them all.
    adds = bool(before or after) or backend.post_processor is None
    backend.post_processor = template if adds else Processors([backend.post_processor, template])
    return tokenizer


def _added(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the tokens that a tokenizer puts before and behind a text."""
    ids = list(tokenizer("a").input_ids)
    # An unknown text is a special token too: what was added cannot be told by being special.
    text = list(tokenizer("a", add_special_tokens=False).input_ids)
    starts = range(len(ids) - len(text) + 1)
    start = next((k for k in starts if ids[k : k + len(text)] == text), 0)
    return ids[:start], ids[start + len(text) :]


def _template(tokenizer: Any, before: list[int], after: list[int]) -> TemplateProcessing:
    names = {number: tokenizer.convert_ids_to_tokens(number) for number in {*before, *after}}
    first, last = ([f"{names[number]}:0" for number in part] for part in (before, after))
    special = [(name, number) for number, name in names.items()]
    return TemplateProcessing(single=[*first, "$A:0", *last], special_tokens=special)
