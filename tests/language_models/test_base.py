"""The contract's checks find what is wrong with a language model."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lit_vlm.language_models import IGNORED, CausalLanguageModel, LanguageModel, TokenLoss
from lit_vlm.testing import check_language_model

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


class Averaging(CausalLanguageModel):
    def forward(
        self, embeddings: Tensor, attention_mask: Tensor, labels: Tensor, roles: Any = None
    ) -> TokenLoss:
        loss = super().forward(embeddings, attention_mask, labels)
        return TokenLoss(loss.total / loss.num_tokens, loss.num_tokens)


class CountingAll(CausalLanguageModel):
    def forward(
        self, embeddings: Tensor, attention_mask: Tensor, labels: Tensor, roles: Any = None
    ) -> TokenLoss:
        loss = super().forward(embeddings, attention_mask, labels)
        return TokenLoss(loss.total, torch.tensor(labels.numel()))


class LearningPadding(CausalLanguageModel):
    def forward(
        self, embeddings: Tensor, attention_mask: Tensor, labels: Tensor, roles: Any = None
    ) -> TokenLoss:
        total = super().forward(embeddings, attention_mask, labels).total
        padding = (~attention_mask).sum()
        return TokenLoss(total + padding, (labels[:, 1:] != IGNORED).sum())


class BlindToPadding(CausalLanguageModel):
    def generate(
        self,
        embeddings: Tensor,
        attention_mask: Tensor,
        stop_ids: Sequence[int],
        *_: Any,
        **__: Any,
    ) -> Tensor:
        return super().generate(embeddings, torch.ones_like(attention_mask), stop_ids, 4)


class NeverLikeliest(CausalLanguageModel):
    def generate(
        self,
        embeddings: Tensor,
        attention_mask: Tensor,
        stop_ids: Sequence[int],
        *_: Any,
        **__: Any,
    ) -> Tensor:
        return (super().generate(embeddings, attention_mask, stop_ids, 4) + 1) % 64


class PartlyIdle(CausalLanguageModel):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.idle = nn.Linear(1, 1)


def test_a_model_that_cannot_add_tokens_says_so() -> None:
    model = CausalLanguageModel(config=CONFIG)
    LanguageModel.add_tokens(model, [])
    with pytest.raises(ValueError, match="must do with the tokens that the language model has"):
        LanguageModel.add_tokens(model, ["<new>"])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Averaging, "the loss must be the summed cross-entropy"),
        (CountingAll, "each supervised token counts once"),
        (LearningPadding, "padding on the right must not count"),
        (BlindToPadding, "padding on the left must not change what is generated"),
        (NeverLikeliest, "greedy decoding must take the likeliest token"),
        (PartlyIdle, "no gradient reaches .*'idle.weight', 'idle.bias'"),
    ],
)
def test_the_contract_finds(broken: type[CausalLanguageModel], message: str) -> None:
    torch.manual_seed(0)
    model = broken(config=CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    with pytest.raises(AssertionError, match=message):
        check_language_model(model)
