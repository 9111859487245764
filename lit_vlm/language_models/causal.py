"""Any causal language model of transformers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AttentionInterface, AutoModelForCausalLM

from lit_vlm.errors import nearest
from lit_vlm.language_models.base import IGNORED, TokenLoss
from lit_vlm.language_models.multimodal_causal_attention import (
    MULTIMODAL_CAUSAL,
    PUBLISHED,
    register_multimodal_causal,
)
from lit_vlm.language_models.prefix_attention import PREFIX, register_prefix
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
from lit_vlm.language_models.token_roles import TokenRoles, roles_in_force
from lit_vlm.language_models.transformers_model import TransformersLanguageModel

_OWN = (MULTIMODAL_CAUSAL, PUBLISHED, PREFIX)
_ATTENDING = {"full_attention", "sliding_attention", "chunked_attention"}


class CausalLanguageModel(TransformersLanguageModel):
    """Run any ``AutoModelForCausalLM``: Llama, Qwen, Gemma, GPT-2, SmolLM and the rest.

    The logits are computed at supervised positions only, inside the model itself, so that each
    family's own scaling and soft-capping of logits apply.

    Args:
        pretrained: hub name or local folder of the weights; None for random ones. Of a LLaVA
            (``llava-hf/llava-1.5-7b-hf``) the language model and its tokenizer alone are read.
        config: sizes of a model with random weights: ``model_type`` and that type's own fields,
            ``vocab_size`` among them. Beside ``pretrained`` it says what the weights must be, so
            that a run can be planned without them.
        tokenizer: hub name or local folder; None takes the one of ``pretrained``, or, for random
            weights, trains a byte-level BPE on the training texts, of at most ``vocab_size``.
        attention: transformers' implementation: ``sdpa``, ``eager``, ``flash_attention_2``, ...;
            ``multimodal_causal``, by which text attends to text and to images by a softmax each
            and a visual token to itself (DeepSpeed-VisualChat; ``multimodal_causal_published`` is
            what its code computes, which leaks from the future); or ``prefix``, by which image and
            prompt are read in both directions (PaliGemma). None for ``sdpa`` where the family has
            it, else ``eager``.
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
        transformers (Wolf et al., 2020), https://github.com/huggingface/transformers.
    """

    def __init__(
        self,
        pretrained: str | Path | None = None,
        config: dict[str, Any] | None = None,
        tokenizer: str | Path | None = None,
        attention: str | None = None,
        gradient_checkpointing: bool = False,
        lora: dict[str, Any] | None = None,
        quantization: Quantization | None = None,
        new_tokens: Sequence[str] | None = None,
    ) -> None:
        check_source("CausalLanguageModel", pretrained, config)
        register_multimodal_causal()
        register_prefix()
        _check_name(attention)
        try:
            model = _made(pretrained, config, attention, quantization)
        except KeyError as error:  # families that keep a table of implementations for themselves
            if attention not in _OWN:
                raise
            family = str(pretrained) if config is None else config.get("model_type")
            raise _no_support(str(family), attention) from error
        _check_support(model, attention)
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
        """Return the summed cross-entropy of the labels, each predicted from what precedes it."""
        targets = labels[:, 1:]
        supervised = targets != IGNORED
        with self._logits_only_at(supervised):
            logits = self._run(embeddings, attention_mask, roles)
        total = cross_entropy(logits.float(), targets[supervised], reduction="sum")
        return TokenLoss(total, supervised.sum())

    def logits(
        self,
        embeddings: Float[Tensor, "B T D"],
        attention_mask: Bool[Tensor, "B T"],
        roles: TokenRoles | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Return the logits at every position."""
        return self._run(embeddings, attention_mask, roles)

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
        """Continue left-padded prompts, greedily or by nucleus sampling, with a KV cache."""
        with roles_in_force(roles):
            return generate_tokens(
                self.model,
                embeddings,
                attention_mask,
                stop_ids,
                max_new_tokens,
                temperature,
                top_p,
            )

    def _run(self, embeddings: Tensor, attention_mask: Tensor, roles: TokenRoles | None) -> Tensor:
        with roles_in_force(roles):
            output = self.model(
                inputs_embeds=embeddings, attention_mask=attention_mask.long(), use_cache=False
            )
        return output.logits

    @contextmanager
    def _logits_only_at(self, positions: Bool[Tensor, "B T"]) -> Iterator[None]:
        # The vocabulary's matrix is the dearest of a small model; the hook keeps it to the
        # positions that carry loss and leaves what the model does to its logits in place.
        def select(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (args[0][:, : positions.shape[1]][positions], *args[1:])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(select)
        try:
            yield
        finally:
            handle.remove()


def _made(
    pretrained: str | Path | None,
    config: dict[str, Any] | None,
    attention: str | None,
    quantization: Quantization | None,
) -> Any:
    who = "CausalLanguageModel"
    known = MODEL_FOR_CAUSAL_LM_MAPPING
    kind = "a causal language model"
    built = None if config is None else build_config(who, config, known, kind, "llama, qwen2, gpt2")
    if pretrained is not None:
        if config is not None:
            check_published(who, AutoModelForCausalLM, built, config, str(pretrained))
        how = {"attn_implementation": attention}
        return load_pretrained(who, AutoModelForCausalLM, str(pretrained), quantization, **how)
    check_quantization(who, quantization)
    model = AutoModelForCausalLM.from_config(built, attn_implementation=attention)
    if config is not None and config.get("tie_word_embeddings") is False:
        untie(model)
    return model


def _check_name(attention: str | None) -> None:
    known = {"eager", *AttentionInterface().valid_keys()}
    if attention is not None and attention not in known and "/" not in attention:
        hint = nearest(attention, {*_OWN, "sdpa", "eager", "flash_attention_2"})
        raise ValueError(
            f"CausalLanguageModel: attention must be one that transformers or lit-vlm has, got "
            f"{attention!r}.{hint}"
        )


def _check_support(model: Any, attention: str | None) -> None:
    if attention not in _OWN:
        return
    kinds = set(getattr(model.config, "layer_types", None) or ())
    # Families without transformers' own sdpa compute something else with a mask like ours.
    if not getattr(model, "_supports_sdpa", False) or kinds - _ATTENDING:
        raise _no_support(model.config.model_type, attention)


def _no_support(family: str, attention: str | None) -> ValueError:
    return ValueError(
        f"CausalLanguageModel: attention={attention} must come with a Llama-like model, all of "
        f"whose layers attend by transformers' interface, got {family}. Leave it out, or take "
        f"another model."
    )
