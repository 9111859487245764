"""The contract of language models."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_vlm.language_models.token_roles import TokenRoles
from lit_vlm.part import Part

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""Label of a position that carries no loss."""


class TokenLoss(NamedTuple):
    """A loss before it is averaged, so that micro-batches and ranks can be weighted by tokens.

    Attributes:
        total: sum of the cross-entropies in nats, a scalar.
        num_tokens: number of supervised tokens in it, a scalar.
    """

    total: Float[Tensor, ""]
    num_tokens: Int[Tensor, ""]


class LanguageModel(Part, ABC):
    """Predict and generate text from token embeddings with visual tokens among them.

    Attributes:
        dim: width of the token embeddings.
        tokenizer: the model's tokenizer, or None until ``train_tokenizer`` has made one.
    """

    dim: int
    tokenizer: "PreTrainedTokenizerBase | None"

    @abstractmethod
    def train_tokenizer(self, texts: Iterable[str]) -> None:
        """Make the tokenizer from texts, for a model that comes without one."""

    def add_tokens(self, words: Sequence[str]) -> None:
        """Make words special tokens, where they are none yet, with embeddings that train.

        Raises:
            ValueError: if this kind of language model cannot.
        """
        if words:
            raise ValueError(
                f"{type(self).__name__}: a prompt format must do with the tokens that the language "
                f"model has, got new ones: {', '.join(words)}. Use the format's markers as words."
            )

    @abstractmethod
    def embed(self, input_ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Look the embeddings of tokens up."""

    @abstractmethod
    def forward(
        self,
        embeddings: Float[Tensor, "B T D"],
        attention_mask: Bool[Tensor, "B T"],
        labels: Int[Tensor, "B T"],
        roles: TokenRoles | None = None,
    ) -> TokenLoss:
        """Return the summed loss; labels are not shifted, ``IGNORED`` marks the rest.

        ``roles`` say which tokens are visual and which the prompt's, for those that care.
        """

    @abstractmethod
    def logits(
        self,
        embeddings: Float[Tensor, "B T D"],
        attention_mask: Bool[Tensor, "B T"],
        roles: TokenRoles | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Return the logits at every position."""

    @abstractmethod
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
        """Continue left-padded prompts.

        Args:
            embeddings: prompts with their visual tokens in place.
            attention_mask: False at the padding, which stands on the left.
            stop_ids: tokens that end an answer.
            max_new_tokens: longest answer, in tokens.
            temperature: 0 for greedy decoding, else the sampling temperature.
            top_p: share of probability that sampling draws from.
            roles: what each token of the prompts is.

        Returns:
            New tokens only, ended by a stop token and padded with stop tokens.
        """
