"""Any encoder-decoder language model of transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, AutoModelForSeq2SeqLM

from lit_vlm.language_models.base import IGNORED, TokenLoss
from lit_vlm.language_models.pretrained import (
    Quantization,
    build_config,
    check_published,
    check_quantization,
    check_source,
    generate_tokens,
    load_pretrained,
    untie,
)
from lit_vlm.language_models.token_roles import TokenRoles
from lit_vlm.language_models.transformers_model import TransformersLanguageModel

_NAME = "Seq2SeqLanguageModel"


class Seq2SeqLanguageModel(TransformersLanguageModel):
    """Run any ``AutoModelForSeq2SeqLM``: T5, mT5, UL2 and the rest.

    The encoder reads what stands before an answer, images and text in both directions; the
    decoder learns to say the answer. A sample with several answers becomes as many pairs, of
    which each is encoded anew: k rounds cost k encodings, where a causal model needs one.

    Args:
        pretrained: hub name or local folder of the weights; None for random ones.
        config: sizes of a model with random weights: ``model_type`` (``t5``, ``mt5``, ...) and
            that type's own fields, ``vocab_size`` among them. Beside ``pretrained`` it says what
            the weights must be, so that a run can be planned without them.
        tokenizer: hub name or local folder; None takes the one of ``pretrained``, or, for random
            weights, trains a byte-level BPE on the training texts, of at most ``vocab_size``.
        gradient_checkpointing: recompute blocks in the backward pass, to save memory.
        lora: train low-rank adapters, the rest frozen: arguments of ``peft.LoraConfig``, see
            ``apply_lora``; None to train every weight.
        quantization: ``4bit`` or ``8bit`` to load pretrained weights so, with bitsandbytes; their
            checkpoints need ``pretrained`` again. No test runs it.
        new_tokens: special tokens to add, see ``NewTokens``; None for those that the prompt format
            asks for and the tokenizer lacks.

    Raises:
        ValueError: if neither of ``pretrained`` and ``config`` is given, the two differ, the model
            type is unknown, the tokenizer has more tokens than the model has embeddings, ``lora``
            does not fit, or random weights are to be quantised.
        OSError: if something pretrained is not on this machine and cannot be downloaded.
        ImportError: if peft or bitsandbytes is needed and not installed.

    Source:
        T5 (Raffel et al., 2020), https://arxiv.org/abs/1910.10683, as PaLI-3 (Chen et al., 2023),
        https://arxiv.org/abs/2310.09199, gives it images; from transformers (Wolf et al., 2020),
        https://github.com/huggingface/transformers.
    """

    def __init__(
        self,
        pretrained: str | Path | None = None,
        config: dict[str, Any] | None = None,
        tokenizer: str | Path | None = None,
        gradient_checkpointing: bool = False,
        lora: dict[str, Any] | None = None,
        quantization: Quantization | None = None,
        new_tokens: Sequence[str] | None = None,
    ) -> None:
        check_source(_NAME, pretrained, config)
        model = _made(pretrained, config, quantization)
        _choose_start_token(model)
        super().__init__(
            model,
            tokenizer=tokenizer if tokenizer is not None else pretrained,
            gradient_checkpointing=gradient_checkpointing,
            lora=lora,
            quantization=quantization,
            new_tokens=new_tokens,
        )

    def forward(
        self,
        embeddings: Float[Tensor, "B T D"],
        attention_mask: Bool[Tensor, "B T"],
        labels: Int[Tensor, "B T"],
        roles: TokenRoles | None = None,
    ) -> TokenLoss:
        """Return the summed cross-entropy of the answers, each given all that precedes it.

        As with a causal model, a sample's very first token is never supervised.
        """
        supervised = _supervised(labels, attention_mask)
        logits = self.answer_logits(embeddings, attention_mask, labels)
        total = cross_entropy(logits.float(), labels[supervised], reduction="sum")
        return TokenLoss(total, supervised.sum())

    def answer_logits(
        self,
        embeddings: Float[Tensor, "B T D"],
        attention_mask: Bool[Tensor, "B T"],
        labels: Int[Tensor, "B T"],
    ) -> Float[Tensor, "S V"]:
        """Return the logits that predict each of the S supervised tokens, in reading order."""
        answers = _answers(labels, _supervised(labels, attention_mask))
        before = torch.arange(labels.shape[1], device=labels.device) < answers.starts[:, None]
        encoder_inputs, seen = _packed(embeddings, answers.rows, attention_mask, before)
        start = self.model.config.decoder_start_token_id
        decoder_inputs = pad(answers.tokens[:, :-1], (1, 0), value=start)
        output = self.model(
            inputs_embeds=encoder_inputs,
            attention_mask=seen.long(),
            # What pads an answer is behind all of its tokens, which cannot see it.
            decoder_input_ids=decoder_inputs.masked_fill(decoder_inputs == IGNORED, start),
            use_cache=False,
        )
        return output.logits[answers.tokens != IGNORED]

    def logits(
        self,
        embeddings: Float[Tensor, "B T D"],
        attention_mask: Bool[Tensor, "B T"],
        roles: TokenRoles | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Refuse: an encoder predicts nothing, and a decoder only once it is told the answers.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{_NAME}: logits at every position must come from a causal model, got an "
            f"encoder-decoder. Call answer_logits with labels."
        )

    @torch.no_grad()
    def generate(
        self,
        embeddings: Float[Tensor, "B T D"],
        attention_mask: Bool[Tensor, "B T"],
        stop_ids: Sequence[int],
        max_new_tokens: int = 32,
        temperature: float = 0.0,
        top_p: float = 1.0,
        roles: TokenRoles | None = None,
    ) -> Int[Tensor, "B T_new"]:
        """Answer prompts, greedily or by nucleus sampling, with a KV cache."""
        rows = torch.arange(len(embeddings), device=embeddings.device)
        everything = torch.ones_like(attention_mask)
        # The decoder's first token is no part of the answer.
        return generate_tokens(
            self.model,
            *_packed(embeddings, rows, attention_mask, everything),
            stop_ids,
            max_new_tokens,
            temperature,
            top_p,
            decoder_start_token_id=self.model.config.decoder_start_token_id,
        )[:, 1:]


class _Answers(NamedTuple):
    rows: Int[Tensor, "R"]  # the sample of each
    starts: Int[Tensor, "R"]  # where it begins in there
    tokens: Int[Tensor, "R L"]  # what it says, then IGNORED


def _supervised(
    labels: Int[Tensor, "B T"], attention_mask: Bool[Tensor, "B T"]
) -> Bool[Tensor, "B T"]:
    # Nothing could be read before the first token of a sample.
    return (labels != IGNORED) & (attention_mask.cumsum(1) > 1)


def _answers(labels: Int[Tensor, "B T"], supervised: Bool[Tensor, "B T"]) -> _Answers:
    follows = pad(supervised[:, :-1], (1, 0), value=False)
    goes_on = pad(supervised[:, 1:], (0, 1), value=False)
    rows, starts = (supervised & ~follows).nonzero(as_tuple=True)
    lengths = (supervised & ~goes_on).nonzero()[:, 1] + 1 - starts
    if not len(rows):
        # One answer of no token: every weight must have a gradient, if it is zero.
        rows, lengths = rows.new_zeros(1), lengths.new_zeros(1)
        starts = starts.new_full((1,), labels.shape[1])
    places = torch.arange(max(1, int(lengths.max())), device=labels.device)
    positions = (starts[:, None] + places).clamp(max=labels.shape[1] - 1)
    tokens = labels[rows[:, None], positions].masked_fill(places >= lengths[:, None], IGNORED)
    return _Answers(rows, starts, tokens)


def _packed(
    embeddings: Float[Tensor, "B T D"],
    rows: Int[Tensor, "R"],
    attention_mask: Bool[Tensor, "B T"],
    wanted: Bool[Tensor, "R T"],
) -> tuple[Float[Tensor, "R S D"], Bool[Tensor, "R S"]]:
    """Move what is wanted of each row to its beginning and cut off what no row needs.

    Training and generation thus count positions alike, on whichever side a batch was padded.
    """
    seen = attention_mask[rows] & wanted
    longest = int(seen.sum(1).max())
    order = (~seen).long().argsort(dim=1, stable=True)[:, :longest]
    return embeddings[rows[:, None], order], seen.gather(1, order)


def _made(
    pretrained: str | Path | None,
    config: dict[str, Any] | None,
    quantization: Quantization | None,
) -> Any:
    known = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    kind = "an encoder-decoder language model"
    built = None if config is None else build_config(_NAME, config, known, kind, "t5, mt5")
    if pretrained is not None:
        if config is not None:
            check_published(_NAME, AutoModelForSeq2SeqLM, built, config, str(pretrained))
        return load_pretrained(_NAME, AutoModelForSeq2SeqLM, str(pretrained), quantization)
    check_quantization(_NAME, quantization)
    model = AutoModelForSeq2SeqLM.from_config(built)
    if config is not None and config.get("tie_word_embeddings") is False:
        untie(model)
    return model


def _choose_start_token(model: Any) -> None:
    config = model.config
    candidates = (
        getattr(config, "decoder_start_token_id", None),
        model.generation_config.decoder_start_token_id,
        config.pad_token_id,
    )
    start = next((token for token in candidates if token is not None), None)
    if start is None:
        raise ValueError(
            f"{_NAME}: config must have decoder_start_token_id or pad_token_id, got neither. Give "
            f"the token that the decoder starts from."
        )
    config.decoder_start_token_id = start
