"""Encoder-decoders as transformers runs them, against the same weights in lit-vlm."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import (
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from lit_vlm.language_models import IGNORED
from lit_vlm.language_models.seq2seq import Seq2SeqLanguageModel

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
}
T5_1_1: dict[str, Any] = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
PROMPT, ANSWER = 5, 4


def pair(kind: str) -> tuple[Seq2SeqLanguageModel, Any]:
    """Make our model and theirs, with the same weights, of which none is 0 or 1."""
    torch.manual_seed(0)
    theirs: Any
    if kind == "mt5":
        config: dict[str, Any] = {}
        theirs = MT5ForConditionalGeneration(MT5Config(**SIZES))
    else:
        config = T5_1_1 if kind == "t5 1.1" else {}
        theirs = T5ForConditionalGeneration(T5Config(**SIZES, **config))
        if kind == "t5 1.1":  # what its published weights come with
            theirs.lm_head.weight = nn.Parameter(torch.randn(64, 16))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    model_type = "mt5" if kind == "mt5" else "t5"
    ours = Seq2SeqLanguageModel(config={"model_type": model_type, **SIZES, **config})
    ours.model.load_state_dict(theirs.state_dict())
    return ours.eval(), theirs.eval()


def samples() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ids, mask and labels of prompts and answers, and the prompts' ids."""
    torch.manual_seed(1)
    ids = torch.randint(3, 60, (2, PROMPT + ANSWER))
    labels = ids.clone()
    labels[:, :PROMPT] = IGNORED
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, -1] = False
    labels[1, -1] = IGNORED
    return ids, mask, labels, ids[:, :PROMPT]


KINDS = pytest.mark.parametrize("kind", ["t5", "t5 1.1", "mt5"])


@KINDS
def test_loss_and_gradients_are_transformers_own(kind: str) -> None:
    ours, theirs = pair(kind)
    ids, mask, labels, prompts = samples()
    loss = ours(ours.embed(ids), mask, labels)
    loss.total.backward()

    answers = labels[:, PROMPT:].contiguous()
    output = theirs(inputs_embeds=theirs.shared(prompts), labels=answers)
    count = int((answers != IGNORED).sum())
    (output.loss * count).backward()
    assert int(loss.num_tokens) == count
    assert_close(loss.total, output.loss * count, atol=1e-5, rtol=1e-5)
    expected = {name: weight.grad for name, weight in theirs.named_parameters()}
    for name, weight in ours.model.named_parameters():
        assert_close(weight.grad, expected[name], atol=1e-5, rtol=1e-5, msg=name)


@KINDS
def test_answer_logits_are_transformers_own(kind: str) -> None:
    ours, theirs = pair(kind)
    ids, mask, labels, prompts = samples()
    logits = ours.answer_logits(ours.embed(ids), mask, labels)
    answers = labels[:, PROMPT:].contiguous()
    expected = theirs(inputs_embeds=theirs.shared(prompts), labels=answers).logits
    assert_close(logits, expected[answers != IGNORED], atol=1e-5, rtol=1e-5)


@KINDS
def test_greedy_generation_is_transformers_own(kind: str) -> None:
    ours, theirs = pair(kind)
    prompts = samples()[-1]
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": 1, "pad_token_id": 1}
    expected = theirs.generate(inputs_embeds=theirs.shared(prompts), **options)[:, 1:]
    mask = torch.ones_like(prompts, dtype=torch.bool)
    said = ours.generate(ours.embed(prompts), mask, [1], max_new_tokens=8)
    assert torch.equal(said, expected)
    assert len(set(said.flatten().tolist())) > 3, "more is said than one word again and again"


def test_a_later_token_of_the_prompt_changes_what_an_earlier_image_token_is_encoded_as() -> None:
    ours, _ = pair("t5")
    ids, mask, labels, _ = samples()
    embeddings = ours.embed(ids).detach()
    encoded: list[Tensor] = []
    ours.model.encoder.register_forward_hook(
        lambda _, args, output: encoded.append(output.last_hidden_state)
    )
    ours(embeddings, mask, labels)
    embeddings[:, PROMPT - 1] += 1.0
    ours(embeddings, mask, labels)
    assert encoded[0].shape[1] == PROMPT, "the answer is nothing to encode"
    assert not torch.allclose(encoded[0][:, 0], encoded[1][:, 0])


def test_no_answer_token_is_predicted_from_itself_or_a_later_one() -> None:
    ours, _ = pair("t5")
    ids, mask, labels, _ = samples()
    before = ours.answer_logits(ours.embed(ids), mask, labels)[:ANSWER]
    for place in range(ANSWER):
        other = labels.clone()
        other[0, PROMPT + place] = 61
        changed = ids.clone()
        changed[0, PROMPT + place] = 61
        after = ours.answer_logits(ours.embed(changed), mask, other)[:ANSWER]
        moved = (after - before).abs().amax(-1) > 1e-4
        assert moved.tolist() == [t > place for t in range(ANSWER)]
