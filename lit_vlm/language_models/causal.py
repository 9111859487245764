"""Any causal language model of transformers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerBase,
)

from lit_vlm.freezing import evaluating
from lit_vlm.language_models.base import IGNORED, LanguageModel, TokenLoss
from lit_vlm.language_models.recomputing import recompute_blocks, recompute_frozen_blocks
from lit_vlm.language_models.tokenizers import (
    tokenizer_from_state,
    tokenizer_to_state,
    train_bpe,
)

Loaded = TypeVar("Loaded")


class CausalLanguageModel(LanguageModel):
    """Run any ``AutoModelForCausalLM``: Llama, Qwen, Gemma, GPT-2, SmolLM and the rest.

    The logits are computed at supervised positions only, inside the model itself, so that each
    family's own scaling and soft-capping of logits apply.

    Args:
        pretrained: hub name or local folder of the weights; None for random ones.
        config: sizes of a model with random weights: ``model_type`` and that type's own fields,
            ``vocab_size`` among them. Give either this or ``pretrained``.
        tokenizer: hub name or local folder; None takes the one of ``pretrained``, or, for random
            weights, trains a byte-level BPE on the training texts, of at most ``vocab_size``.
        attention: transformers' implementation: ``sdpa``, ``eager``, ``flash_attention_2``, ...;
            None for ``sdpa`` where the family has it, else ``eager``.
        gradient_checkpointing: recompute blocks in the backward pass, to save memory.

    Raises:
        ValueError: if neither or both of ``pretrained`` and ``config`` are given, the model type
            is unknown, or the tokenizer has more tokens than the model has embeddings.
        OSError: if something pretrained is not on this machine and cannot be downloaded.

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
    ) -> None:
        super().__init__()
        if (pretrained is None) == (config is None):
            raise ValueError(
                "CausalLanguageModel: must have either pretrained (a hub name or a folder) or "
                f"config (model_type and sizes), got pretrained={pretrained!r} and "
                f"config={config!r}. Remove one or give the other."
            )
        if config is not None:
            self.model: Any = _from_config(config, attention)
        else:
            self.model = _from_hub(
                pretrained,
                lambda name: AutoModelForCausalLM.from_pretrained(
                    # The trainer's precision decides; half-precision weights would lose updates.
                    name,
                    dtype=torch.float32,
                    attn_implementation=attention,
                ),
            )
            # from_pretrained returns evaluation mode, which Lightning would keep during fit.
            self.model.train()
        source = tokenizer if tokenizer is not None else pretrained
        self.tokenizer = None
        if source is not None:
            self.tokenizer = self._fitting(_from_hub(source, AutoTokenizer.from_pretrained))
        self.gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            recompute_blocks(self.model)
        self.dim: int = self.model.get_input_embeddings().embedding_dim

    def rebuild_config(self) -> dict[str, Any]:
        """Name the sizes; weights and tokenizer come from the checkpoint."""
        record = super().rebuild_config()
        sizes = _plain_config(self.model.config)
        record["init_args"].update(pretrained=None, config=sizes, tokenizer=None)
        return record

    def checkpoint_state(self) -> dict[str, Any]:
        """Return the tokenizer's files."""
        return {} if self.tokenizer is None else {"tokenizer": tokenizer_to_state(self.tokenizer)}

    def load_checkpoint_state(self, state: dict[str, Any]) -> None:
        """Take the tokenizer from a checkpoint."""
        self.tokenizer = self._fitting(tokenizer_from_state(state["tokenizer"]))

    def train_tokenizer(self, texts: Iterable[str]) -> None:
        """Train a byte-level BPE as large as the model's table of embeddings."""
        self.tokenizer = train_bpe(texts, self.model.get_input_embeddings().num_embeddings)

    def train(self, mode: bool = True) -> "CausalLanguageModel":
        """Set the mode; frozen blocks still recompute if they were asked to."""
        super().train(mode)
        if self.gradient_checkpointing:
            recompute_frozen_blocks(self.model)
        return self

    def embed(self, input_ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Look the embeddings of tokens up."""
        return self.model.get_input_embeddings()(input_ids)

    def forward(
        self,
        embeddings: Float[Tensor, "B T D"],
        attention_mask: Bool[Tensor, "B T"],
        labels: Int[Tensor, "B T"],
    ) -> TokenLoss:
        """Return the summed cross-entropy of the labels, each predicted from what precedes it."""
        targets = labels[:, 1:]
        supervised = targets != IGNORED
        with self._logits_only_at(supervised):
            logits = self._run(embeddings, attention_mask)
        total = cross_entropy(logits.float(), targets[supervised], reduction="sum")
        return TokenLoss(total, supervised.sum())

    def logits(
        self, embeddings: Float[Tensor, "B T D"], attention_mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T V"]:
        """Return the logits at every position."""
        return self._run(embeddings, attention_mask)

    @torch.no_grad()
    def generate(
        self,
        embeddings: Float[Tensor, "B T D"],
        attention_mask: Bool[Tensor, "B T"],
        stop_ids: Sequence[int],
        max_new_tokens: int = 32,
        temperature: float = 0.0,
        top_p: float = 1.0,
    ) -> Int[Tensor, "B T_new"]:
        """Continue left-padded prompts, greedily or by nucleus sampling, with a KV cache."""
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        with evaluating(self), self._no_habits_of_generation():
            return self.model.generate(
                inputs_embeds=embeddings,
                attention_mask=attention_mask.long(),
                max_new_tokens=max_new_tokens,
                eos_token_id=list(stop_ids),
                pad_token_id=stop_ids[0],
                **sampling,
            )

    def _run(self, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        output = self.model(
            inputs_embeds=embeddings, attention_mask=attention_mask.long(), use_cache=False
        )
        return output.logits

    @contextmanager
    def _no_habits_of_generation(self) -> Iterator[None]:
        # Published models come with penalties and sampling of their own, which would join ours.
        own = self.model.generation_config
        self.model.generation_config = GenerationConfig()
        try:
            yield
        finally:
            self.model.generation_config = own

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

    def _fitting(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
        rows = self.model.get_input_embeddings().num_embeddings
        if len(tokenizer) > rows:
            raise ValueError(
                f"CausalLanguageModel: the tokenizer must not have more tokens than the model has "
                f"embeddings ({rows}), got {len(tokenizer)}. Use the model's own tokenizer or a "
                f"larger vocab_size."
            )
        return tokenizer


def _from_config(config: dict[str, Any], attention: str | None) -> Any:
    sizes = dict(config)
    kind = sizes.pop("model_type", None)
    if "vocab_size" not in sizes:
        raise ValueError(
            f"CausalLanguageModel: config must have vocab_size, got {sorted(sizes)}. It is the "
            f"most tokens that a tokenizer may have."
        )
    try:
        built = AutoConfig.for_model(kind, **sizes)
    except ValueError as error:
        raise ValueError(
            f"CausalLanguageModel: config must have a model_type that transformers knows (llama, "
            f"qwen2, gpt2, ...), got {kind!r}."
        ) from error
    if type(built) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(
            f"CausalLanguageModel: config must have the model_type of a causal language model "
            f"(llama, qwen2, gpt2, ...), got {kind!r}."
        )
    return AutoModelForCausalLM.from_config(built, attn_implementation=attention)


def _from_hub(name: str | Path | None, load: Callable[[str], Loaded]) -> Loaded:
    try:
        return load(str(name))
    except OSError as error:
        raise OSError(
            f"CausalLanguageModel: must find {str(name)!r} as a folder or on the hub, got "
            f"{type(error).__name__}. Give a local folder, or run once with a network."
        ) from error


def _plain_config(config: Any) -> dict[str, Any]:
    # Token ids, lengths and the like are kept; what only describes a file or a run is not.
    dropped = {"transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype"}
    full = config.to_diff_dict()
    full["model_type"] = config.model_type
    full["vocab_size"] = config.vocab_size
    return {k: v for k, v in full.items() if k not in dropped}
