"""What language models of transformers share, causal or not."""

from abc import ABC
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoTokenizer

from lit_vlm.language_models.base import LanguageModel
from lit_vlm.language_models.lora import apply_lora, has_lora, merge_lora
from lit_vlm.language_models.new_tokens import NewTokens
from lit_vlm.language_models.pretrained import (
    Quantization,
    check_is_text_model,
    fitting,
    from_hub,
    input_table,
    plain_config,
    sizes_of_folder,
)
from lit_vlm.language_models.recomputing import recompute_blocks, recompute_frozen_blocks
from lit_vlm.language_models.tokenizers import (
    tokenizer_from_state,
    tokenizer_to_state,
    train_bpe,
)


class TransformersLanguageModel(LanguageModel, ABC):
    """A network of transformers, its tokenizer, and what is added to both.

    Args:
        model: the network.
        tokenizer: hub name or local folder of the tokenizer; None for one that is made later.
        gradient_checkpointing: recompute blocks in the backward pass, to save memory.
        lora: arguments of ``peft.LoraConfig``, see ``apply_lora``; None for no adapters.
        quantization: what the weights were quantised to when they were loaded.
        new_tokens: special tokens to add, see ``NewTokens``; None for those that the prompt format
            asks for and the tokenizer lacks.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: str | Path | None,
        gradient_checkpointing: bool,
        lora: dict[str, Any] | None,
        quantization: Quantization | None,
        new_tokens: Sequence[str] | None,
    ) -> None:
        super().__init__()
        check_is_text_model(type(self).__name__, model)
        self.model = model
        self.tokenizer = None
        if tokenizer is not None:
            read = from_hub(type(self).__name__, tokenizer, AutoTokenizer.from_pretrained)
            self.tokenizer = fitting(type(self).__name__, read, model)
        self.dim: int = model.get_input_embeddings().embedding_dim
        self.new_tokens: NewTokens | None = None
        self._tokens_are_given = new_tokens is not None
        if lora is not None:
            apply_lora(model, lora)
        self._add(self._checked(new_tokens or ()))
        self.gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            recompute_blocks(model)
        self.quantization = quantization

    @classmethod
    def sizes_alone(cls, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Return arguments that make the network without its weights; see ``meta_model``."""
        return sizes_of_folder(cls.__name__, arguments)

    def rebuild_config(self) -> dict[str, Any]:
        """Name the sizes; weights and tokenizer come from the checkpoint."""
        record = super().rebuild_config()
        arguments = record["init_args"]
        arguments["new_tokens"] = list(self.new_tokens.words) if self.new_tokens else []
        if not has_lora(self.model):  # they may have been merged
            arguments["lora"] = None
        if self.quantization is None:
            arguments.update(pretrained=None, config=plain_config(self.model), tokenizer=None)
        return record

    def checkpoint_state(self) -> dict[str, Any]:
        """Return the tokenizer's files."""
        return {} if self.tokenizer is None else {"tokenizer": tokenizer_to_state(self.tokenizer)}

    def load_checkpoint_state(self, state: dict[str, Any]) -> None:
        """Take the tokenizer from a checkpoint."""
        read = tokenizer_from_state(state["tokenizer"])
        self.tokenizer = fitting(type(self).__name__, read, self.model)

    def train_tokenizer(self, texts: Iterable[str]) -> None:
        """Train a byte-level BPE as large as the model's table of embeddings."""
        words = self.new_tokens.words if self.new_tokens else ()
        rows = input_table(self.model).num_embeddings  # ZeRO 3 leaves no rows here
        self.tokenizer = train_bpe(texts, rows - len(words))
        if self.new_tokens:
            self.new_tokens.teach(self.tokenizer, self.model)

    def add_tokens(self, words: Sequence[str]) -> None:
        """Make words special tokens, unless the constructor was told which to add."""
        if self._tokens_are_given:
            return
        known = self.tokenizer.get_vocab() if self.tokenizer is not None else {}
        known |= dict.fromkeys(self.new_tokens.words, 0) if self.new_tokens else {}
        self._add([word for word in words if word not in known])

    def train(self, mode: bool = True) -> "TransformersLanguageModel":
        """Set the mode; frozen blocks still recompute if they were asked to."""
        super().train(mode)
        if self.gradient_checkpointing:
            recompute_frozen_blocks(self.model)
        return self

    def merge(self) -> None:
        """Fold the adapters of ``lora`` into the weights beside them, and remove them.

        The model computes what it did, at its former cost. Its weights stay frozen until they are
        unfrozen.

        Raises:
            ValueError: if there are no adapters.
        """
        merge_lora(self.model)
        if self.new_tokens:
            self._listen()  # the modules that were listened to may be gone

    def embed(self, input_ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Look the embeddings of tokens up."""
        return self.model.get_input_embeddings()(input_ids)

    def _checked(self, words: Sequence[str]) -> Sequence[str]:
        known = self.tokenizer.get_vocab() if self.tokenizer is not None else {}
        odd = [word for word in words if not word or word in known]
        if isinstance(words, str) or odd or len(set(words)) < len(words):
            raise ValueError(
                f"{type(self).__name__}: new_tokens must be a list of different words that are no "
                f"tokens yet, got {words!r}. Leave out what the tokenizer has."
            )
        return words

    def _add(self, words: Sequence[str]) -> None:
        if not words:
            return
        earlier = self.new_tokens
        words = [*(earlier.words if earlier else ()), *words]
        self.new_tokens = NewTokens(words, self.model)
        if earlier:
            self.new_tokens.take_over(earlier)
        if self.tokenizer is not None:
            self.new_tokens.teach(self.tokenizer, self.model)
        self._listen()

    def _listen(self) -> None:
        # Hooks, since generation and decoders look tokens up and predict them by themselves.
        stacks = [self.model, *filter(None, (self.model.get_encoder(), self.model.get_decoder()))]
        tables = {id(t): t for stack in stacks if (t := stack.get_input_embeddings()) is not None}
        for table in tables.values():
            if self._with_new_embeddings not in table._forward_hooks.values():
                table.register_forward_hook(self._with_new_embeddings)
        head = self.model.get_output_embeddings()
        if self._with_new_logits not in head._forward_hooks.values():
            head.register_forward_hook(self._with_new_logits)

    def _with_new_embeddings(self, _: Any, args: tuple[Tensor, ...], found: Tensor) -> Tensor:
        assert self.new_tokens is not None
        if self.tokenizer is None:  # the mean of all rows is asked for before anything is new
            return found
        return self.new_tokens.replace_inputs(found, args[0], self.tokenizer)

    def _with_new_logits(self, _: Any, args: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        assert self.new_tokens is not None
        return self.new_tokens.replace_outputs(args[0], logits, self.tokenizer)
