"""Special tokens that a published model does not have yet."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from tokenizers import AddedToken
from torch import Tensor, nn

from lit_vlm.language_models.pretrained import input_table, output_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class NewTokens(nn.Module):
    """Embeddings of new tokens, for reading and for writing, apart from the model's own tables.

    They start at the mean of the old rows, train even where the language model is frozen (name
    them to freeze them, too: ``language_model.new_tokens``), and reading and writing have weights
    of their own even where the model ties its tables, so that a frozen table stays as it is.

    Args:
        words: the tokens' texts.
        model: a causal language model of transformers, whose tables give width and mean.

    Source:
        Mean initialisation as in LLaVA's builder, https://github.com/haotian-liu/LLaVA.
    """

    trains_when_frozen = True

    def __init__(self, words: Sequence[str], model: Any) -> None:
        super().__init__()
        self.words = tuple(words)
        table, head = input_table(model), output_table(model)
        with torch.no_grad():
            # Through the module, since some families scale what they look up.
            rows = torch.arange(len(table.weight), device=table.weight.device)
            read = table(rows).float().mean(0)
            written = head.weight.float().mean(0)
        count = len(self.words)
        self.read = nn.Parameter(read.to(table.weight.dtype).repeat(count, 1))
        self.written = nn.Parameter(written.to(head.weight.dtype).repeat(count, 1))
        self._ids: tuple[Any, Tensor] | None = None

    def take_over(self, earlier: "NewTokens") -> None:
        """Take the embeddings of tokens that were added before; they come first."""
        count = len(earlier.words)
        with torch.no_grad():
            self.read[:count] = earlier.read
            self.written[:count] = earlier.written

    def teach(self, tokenizer: "PreTrainedTokenizerBase", model: Any) -> None:
        """Give the tokens to a tokenizer, and the model rows for them if it has none to spare."""
        add_special_tokens(tokenizer, self.words)
        if len(tokenizer) <= len(input_table(model).weight):
            return
        if (
            input_table(model) is not model.get_input_embeddings()
            or output_table(model) is not model.get_output_embeddings()
        ):
            raise ValueError(
                f"NewTokens: lora must leave embeddings and head alone where tokens are added "
                f"({', '.join(self.words)}) and the model has no row to spare, got adapters on "
                f"them. New tokens train by themselves: take the head and the embeddings out of "
                f"target_modules and modules_to_save."
            )
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)

    def replace_inputs(
        self, embeddings: Float[Tensor, "... D"], input_ids: Int[Tensor, "..."], tokenizer: Any
    ) -> Float[Tensor, "... D"]:
        """Put the new tokens' own embeddings where the model's table was looked up for them.

        Doing it twice changes nothing, as for ``replace_outputs``.
        """
        is_new = input_ids[..., None] == self._new_ids(tokenizer, input_ids.device)
        own = is_new.to(self.read.dtype) @ self.read
        return torch.where(is_new.any(-1, keepdim=True), own.to(embeddings.dtype), embeddings)

    def replace_outputs(
        self, hidden: Float[Tensor, "... D"], logits: Float[Tensor, "... V"], tokenizer: Any
    ) -> Float[Tensor, "... V"]:
        """Put the new tokens' own logits in the place of those that the model's head gave."""
        own = hidden @ self.written.to(hidden.dtype).T
        return logits.index_copy(-1, self._new_ids(tokenizer, logits.device), own.to(logits.dtype))

    def _new_ids(self, tokenizer: Any, device: torch.device) -> Int[Tensor, "_"]:
        if self._ids is None or self._ids[0] is not tokenizer or self._ids[1].device != device:
            ids = tokenizer.convert_tokens_to_ids(list(self.words))
            self._ids = (tokenizer, torch.tensor(ids, device=device))
        return self._ids[1]


def add_special_tokens(tokenizer: "PreTrainedTokenizerBase", words: Iterable[str]) -> None:
    """Make words special tokens of a tokenizer, which never cuts them or changes their letters."""
    tokens = [AddedToken(word, special=True, normalized=False) for word in words]
    tokenizer.add_tokens(tokens, special_tokens=True)
