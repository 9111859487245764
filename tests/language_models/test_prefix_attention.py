from typing import Any

import pytest
import torch
from torch import Tensor

from lit_vlm.language_models import CausalLanguageModel
from lit_vlm.language_models.prefix_attention import prefix_mask
from lit_vlm.language_models.token_roles import TokenRoles, roles_in_force

PROMPT = torch.tensor([[1, 1, 1, 1, 0, 0, 0]], dtype=torch.bool)
SIZES = {
    "model_type": "llama",
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def roles(prompt: Tensor = PROMPT) -> TokenRoles:
    return TokenRoles(torch.zeros_like(prompt), prompt)


def mask(prompt: Tensor = PROMPT, **options: Any) -> Tensor:
    with roles_in_force(roles(prompt)):
        made = prefix_mask(7, 7, batch_size=len(prompt), **options)
    assert made is not None
    return made


def test_is_paligemmas_rule_of_cumulative_flags() -> None:
    flags = (~PROMPT).long().cumsum(-1)[0]
    expected = flags[None, :] <= flags[:, None]  # big_vision's make_attn_mask
    assert torch.equal(mask()[0, 0], expected)


def test_padding_is_never_seen() -> None:
    seen = torch.ones(1, 7, dtype=torch.bool)
    seen[:, :2] = False
    made = mask(PROMPT & seen, attention_mask=seen)
    assert not made[0, 0, 2:, :2].any()
    assert made[0, 0, 2, 3]


def test_without_roles_it_is_causal() -> None:
    made = prefix_mask(3, 3, batch_size=1, allow_is_causal_skip=False)
    assert made is not None
    assert made[0, 0].tolist() == torch.ones(3, 3, dtype=torch.bool).tril().tolist()


@pytest.mark.parametrize("place", range(1, 7))
def test_a_later_token_of_the_prompt_is_seen_and_one_of_the_answer_is_not(place: int) -> None:
    torch.manual_seed(0)
    model = CausalLanguageModel(config=SIZES, attention="prefix").eval()
    inputs = torch.randn(1, 7, 16)
    seen = torch.ones(1, 7, dtype=torch.bool)
    changed = inputs.clone()
    changed[:, place] += 1
    with torch.no_grad():
        before, after = (model.logits(x, seen, roles()) for x in (inputs, changed))
    is_prompt = bool(PROMPT[0, place])
    assert torch.equal(before[:, 0], after[:, 0]) != is_prompt
