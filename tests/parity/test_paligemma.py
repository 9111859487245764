"""``attention: prefix`` against transformers' PaliGemma, with the same weights."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

from lit_vlm.language_models import CausalLanguageModel
from lit_vlm.language_models.token_roles import TokenRoles

IMAGE, PATCHES = 50, 4
TEXT: dict[str, Any] = {
    "model_type": "gemma",
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
}
VISION: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
    "vision_use_head": False,
}
# image, then the prompt, then the answer; the second row is shorter and padded on the right
IDS = torch.tensor([[IMAGE] * 4 + [2, 7, 8, 9, 20, 21, 1], [IMAGE] * 4 + [2, 7, 9, 22, 1, 0, 0]])
SUFFIX = torch.tensor([[0] * 8 + [1, 1, 1], [0] * 7 + [1, 1, 0, 0]])
SEEN = torch.tensor([[1] * 11, [1] * 9 + [0, 0]])


@pytest.fixture
def theirs() -> PaliGemmaForConditionalGeneration:
    torch.manual_seed(0)
    config = PaliGemmaConfig(
        vision_config=VISION, text_config=TEXT, image_token_index=IMAGE, projection_dim=16
    )
    return PaliGemmaForConditionalGeneration(config).eval()


def ours(theirs: PaliGemmaForConditionalGeneration, attention: str) -> CausalLanguageModel:
    made = CausalLanguageModel(config=TEXT, attention=attention).eval()
    made.model.model.load_state_dict(theirs.model.language_model.state_dict())
    made.model.lm_head.load_state_dict(theirs.lm_head.state_dict())
    return made


def merged(theirs: PaliGemmaForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    embeddings = theirs.get_input_embeddings()(IDS)
    image = theirs.get_image_features(pixels).pooler_output
    return embeddings.masked_scatter((IDS == IMAGE)[..., None], image)


def test_logits_and_gradients_are_paligemmas(theirs: PaliGemmaForConditionalGeneration) -> None:
    pixels = torch.rand(2, 3, 16, 16)
    labels = torch.where(SUFFIX == 1, IDS, -100)
    expected = theirs(
        input_ids=IDS,
        pixel_values=pixels,
        attention_mask=SEEN,
        token_type_ids=SUFFIX,
        labels=labels,
    )
    lm = ours(theirs, "prefix")
    embeddings = merged(theirs, pixels)
    roles = TokenRoles(IDS == IMAGE, (SUFFIX == 0) & (SEEN == 1))
    logits = lm.logits(embeddings, SEEN.bool(), roles)
    assert_close(logits[SEEN.bool()], expected.logits[SEEN.bool()], atol=1e-5, rtol=1e-5)

    loss = lm(embeddings, SEEN.bool(), labels, roles)
    assert_close(loss.total / loss.num_tokens, expected.loss, atol=1e-5, rtol=1e-5)
    expected.loss.backward()
    (loss.total / loss.num_tokens).backward()
    theirs_grads = dict(theirs.model.language_model.named_parameters())
    for name, weight in lm.model.model.named_parameters():
        if "embed_tokens" not in name:  # reached through the merged embeddings, too
            assert_close(weight.grad, theirs_grads[name].grad, atol=1e-5, rtol=1e-4, msg=name)


def test_causal_attention_is_another_model(theirs: PaliGemmaForConditionalGeneration) -> None:
    embeddings = merged(theirs, torch.rand(2, 3, 16, 16))
    roles = TokenRoles(IDS == IMAGE, (SUFFIX == 0) & (SEEN == 1))
    with torch.no_grad():
        prefix, causal = (
            ours(theirs, kind).logits(embeddings, SEEN.bool(), roles) for kind in ("prefix", "sdpa")
        )
    assert not torch.allclose(prefix[0], causal[0], atol=1e-3)
