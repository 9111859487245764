"""Tokenizers made here, and tokenizers inside a checkpoint."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

_SMALLEST = 256 + 2
"""One token for each byte, beside padding and end of text."""


def train_bpe(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE tokenizer, which can write any text.

    Args:
        texts: training texts.
        vocab_size: most tokens to make, special ones included; fewer if the texts hold fewer.

    Raises:
        ValueError: if ``vocab_size`` has no room for the 256 bytes and the two special tokens.

    Example:
        >>> tokenizer = train_bpe(["a red circle", "a red square"], vocab_size=300)
        >>> tokenizer.decode(tokenizer("a red oval").input_ids)
        'a red oval'
    """
    if vocab_size < _SMALLEST:
        raise ValueError(
            f"train_bpe: vocab_size must be at least {_SMALLEST} (256 bytes, padding and end of "
            f"text), got {vocab_size}."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|pad|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    make: Any = PreTrainedTokenizerFast
    return make(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        clean_up_tokenization_spaces=False,
    )


def tokenizer_to_state(tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """Return a tokenizer's files as byte tensors, fit for a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {
            file.name: torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8)
            for file in sorted(Path(folder).iterdir())
            if file.stat().st_size
        }


def tokenizer_from_state(state: dict[str, Tensor]) -> PreTrainedTokenizerBase:
    """Rebuild a tokenizer from ``tokenizer_to_state``."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in state.items():
            (Path(folder) / name).write_bytes(content.cpu().numpy().tobytes())
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
