"""Texts to one vector each: the text tower of contrastive pretraining."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lit_vlm.freezing import trains
from lit_vlm.language_models.pretrained import check_source, fitting, from_hub, input_table
from lit_vlm.language_models.text_network import (
    check_length,
    is_causal,
    make_text_network,
    own_pooling,
    sizes_of_text,
    text_sizes_alone,
    vector_width,
)
from lit_vlm.language_models.text_pooling import Pooling, check_pooling, pool_text
from lit_vlm.language_models.text_tokens import closing, encode_texts
from lit_vlm.language_models.tokenizers import (
    tokenizer_from_state,
    tokenizer_to_state,
    train_bpe,
)
from lit_vlm.part import Part


class TextEncoder(Part):
    """Turn texts into vectors by CLIP's or SigLIP's text tower, BERT, or a small new network.

    CLIP's (``clip_text_model``) reads from left to right and pools the end token; SigLIP's
    (``siglip_text_model``) reads in both directions, texts padded to the full length, padding
    read along, and pools the last place. Others pool their first token, or the mean.

    Args:
        pretrained: hub name or local folder of the weights, of a text network or of CLIP or SigLIP
            as a whole; None for random ones.
        config: sizes of a network with random weights: ``model_type`` (``clip_text_model`` unless
            said) and that type's own fields, ``vocab_size`` among them. Beside ``pretrained`` it
            says what the weights must be, so that a run can be planned without them. For captions
            of a few words, 2,000 tokens and 2 layers go far.
        tokenizer: hub name or local folder; None takes the one of ``pretrained``, or, for random
            weights, trains a byte-level BPE on the training captions, of at most ``vocab_size``.
        pooling: ``eos``, ``last``, ``first`` or ``mean``; None for the family's own.
        max_length: most tokens of a text, its end token included; None for the network's.
        lower_case: read all texts in lower case, as SigLIP's English networks are trained.

    Raises:
        ValueError: if neither of ``pretrained`` and ``config`` is given, the two differ, the
            network does not read texts, ``max_length`` is out of range, or the tokenizer does not
            fit.
        OSError: if something pretrained is not on this machine and cannot be downloaded.

    Attributes:
        dim: width of the vectors.
        tokenizer: None until ``train_tokenizer`` has made one.

    Source:
        CLIP (Radford et al., 2021), https://arxiv.org/abs/2103.00020; SigLIP (Zhai et al., 2023),
        https://arxiv.org/abs/2303.15343; the networks are transformers'.

    Example:
        >>> sizes = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 32}
        >>> encoder = TextEncoder(
        ...     config={**sizes, "num_hidden_layers": 1, "num_attention_heads": 2}
        ... )
        >>> encoder.train_tokenizer(["a red circle", "a blue square"])
        >>> encoder(*encoder.tokenize(["a red square"])).shape
        torch.Size([1, 16])
    """

    def __init__(
        self,
        pretrained: str | Path | None = None,
        config: dict[str, Any] | None = None,
        tokenizer: str | Path | None = None,
        pooling: Pooling | None = None,
        max_length: int | None = None,
        lower_case: bool = False,
    ) -> None:
        check_source("TextEncoder", pretrained, config)
        check_pooling(pooling)
        super().__init__()
        self.network: Any = make_text_network(config, pretrained, pooling)
        self.pooling: Pooling = pooling or own_pooling(self.network)
        self.dim = vector_width(self.network)
        self.lower_case = lower_case
        self.tokenizer: PreTrainedTokenizerBase | None = None
        source = pretrained if tokenizer is None else tokenizer
        if source is not None:
            self._take(from_hub("TextEncoder", source, AutoTokenizer.from_pretrained))
        self.max_length = check_length(self.network, self.tokenizer, max_length)
        self._has_warned = False

    @classmethod
    def sizes_alone(cls, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Return arguments that make the network without its weights; see ``meta_model``."""
        return text_sizes_alone(arguments)

    def rebuild_config(self) -> dict[str, Any]:
        """Name the sizes; weights and tokenizer come from the checkpoint."""
        record = super().rebuild_config()
        record["init_args"].update(
            pretrained=None,
            config=sizes_of_text(self.network),
            tokenizer=None,
            pooling=self.pooling,
            max_length=self.max_length,
        )
        return record

    def checkpoint_state(self) -> dict[str, Any]:
        """Return the tokenizer's files."""
        return {} if self.tokenizer is None else {"tokenizer": tokenizer_to_state(self.tokenizer)}

    def load_checkpoint_state(self, state: dict[str, Any]) -> None:
        """Take the tokenizer from a checkpoint."""
        self._take(tokenizer_from_state(state["tokenizer"]))

    def train_tokenizer(self, texts: Iterable[str]) -> None:
        """Train a byte-level BPE as large as the network's table of embeddings."""
        read = (text.lower() for text in texts) if self.lower_case else texts
        self._take(train_bpe(read, input_table(self.network).num_embeddings))

    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "C T"], Int[Tensor, "C T"]]:
        """Return tokens, padded on the right, and a mask that is 1 for tokens.

        Texts that are too long are cut before their end token; the first call that does so warns.

        Raises:
            ValueError: if there is no tokenizer yet.
        """
        if self.tokenizer is None:
            raise ValueError(
                "TextEncoder: a tokenizer must be named, got none yet. Name one, or train: fit "
                "makes one from the training captions and checkpoints keep it."
            )
        read = [text.lower() for text in texts] if self.lower_case else texts
        fill = self.pooling == "last"
        ids, mask, num_cut = encode_texts(self.tokenizer, read, self.max_length, fill)
        if num_cut and not self._has_warned:
            self._has_warned = True
            rank_zero_warn(
                f"TextEncoder: {num_cut:,} of {len(texts):,} texts have more than "
                f"{self.max_length} tokens and lose what stands behind (max_length); later ones "
                f"are cut without a word."
            )
        return ids, mask

    def forward(
        self, input_ids: Int[Tensor, "C T"], attention_mask: Int[Tensor, "C T"]
    ) -> Float[Tensor, "C D"]:
        """Return one vector for each text, from what ``tokenize`` returns.

        No graph is kept when nothing in the encoder trains.
        """
        # Left to right, a token does not see the padding behind it; SigLIP reads it on purpose.
        sees_all = self.pooling == "last" or is_causal(self.network)
        with torch.set_grad_enabled(torch.is_grad_enabled() and trains(self)):
            tokens = self.network(
                input_ids=input_ids, attention_mask=None if sees_all else attention_mask
            ).last_hidden_state
            vectors = pool_text(tokens, attention_mask, self.pooling)
            head = getattr(self.network, "head", None)
            return vectors if head is None else head(vectors)

    def _take(self, tokenizer: PreTrainedTokenizerBase) -> None:
        closed = closing(tokenizer, opens=self.pooling == "first")
        self.tokenizer = fitting("TextEncoder", closed, self.network)
