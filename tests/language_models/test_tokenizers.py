import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from lit_vlm.language_models.tokenizers import (
    tokenizer_from_state,
    tokenizer_to_state,
    train_bpe,
)

TEXTS = ["a red circle above a green square", "What is it? It is a red circle."]
TURNS = [{"role": "user", "content": "what?"}, {"role": "assistant", "content": "a circle"}]
TEMPLATE = "{% for m in messages %}<|turn|>{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
TRAINED = train_bpe(TEXTS, 300)


def again(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    return tokenizer_from_state(tokenizer_to_state(tokenizer))


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=20))
def test_a_trained_tokenizer_can_write_any_text(text: str) -> None:
    assert TRAINED.decode(TRAINED(text).input_ids) == text


def test_a_trained_tokenizer_adds_no_tokens_of_its_own() -> None:
    assert TRAINED("").input_ids == []
    first = TRAINED("red").input_ids
    assert TRAINED.pad_token_id not in first
    assert TRAINED.eos_token_id not in first


@pytest.mark.parametrize("size", [258, 270, 300])
def test_makes_at_most_the_tokens_asked_for(size: int) -> None:
    assert 258 <= len(train_bpe(TEXTS, size)) <= size


def test_learns_what_is_frequent() -> None:
    tokenizer = train_bpe(["circle circle circle"] * 3, 300)
    assert len(tokenizer("circle").input_ids) == 1


def test_training_gives_the_same_tokenizer_each_time() -> None:
    assert train_bpe(TEXTS, 300).get_vocab() == TRAINED.get_vocab()


def test_refuses_a_vocabulary_without_room_for_the_bytes() -> None:
    with pytest.raises(ValueError, match="vocab_size must be at least 258 .*, got 257"):
        train_bpe(TEXTS, 257)


def test_a_state_is_tensors_of_bytes() -> None:
    for name, content in tokenizer_to_state(TRAINED).items():
        assert isinstance(name, str)
        assert content.dtype == torch.uint8


def test_a_trained_tokenizer_comes_back_from_its_state() -> None:
    back = again(again(TRAINED))
    assert back.get_vocab() == TRAINED.get_vocab()
    assert back(TEXTS).input_ids == TRAINED(TEXTS).input_ids
    for name in ("pad_token", "eos_token", "bos_token", "unk_token"):
        assert getattr(back, name) == getattr(TRAINED, name)
    text = "It 's a test , is n't it ?"
    assert back.decode(back(text).input_ids) == text, "spaces are not cleaned up"


def test_a_chat_template_and_special_tokens_come_back_too() -> None:
    tokenizer = train_bpe(TEXTS, 300)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>", "<image>"]})
    tokenizer.add_tokens(["circle-ish"])
    tokenizer.chat_template = TEMPLATE
    back = again(again(tokenizer))
    assert len(back) == len(tokenizer)
    assert back.chat_template == TEMPLATE
    assert back.apply_chat_template(TURNS, tokenize=False) == (
        "<|turn|>user: what?<|end|><|turn|>assistant: a circle<|end|>"
    )
    text = "<|turn|>a circle-ish thing<image><|end|>"
    assert back(text).input_ids == tokenizer(text).input_ids
    assert back.decode(back(text).input_ids, skip_special_tokens=True) == "a circle-ish thing"
