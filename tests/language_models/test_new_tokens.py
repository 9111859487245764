from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from lit_vlm.freezing import freeze, unfreeze
from lit_vlm.language_models import CausalLanguageModel

WORDS = ["<see>", "<done>"]
SIZES = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
TEXTS = ["a red circle", "a green square"]


def model(**more: Any) -> Any:
    torch.manual_seed(0)
    made = CausalLanguageModel(config={**SIZES, **more})
    made.train_tokenizer(TEXTS)
    return made


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A published model whose tokenizer fills its table of embeddings."""
    made = model(tie_word_embeddings=request.param)
    assert made.tokenizer is not None
    made.model.resize_token_embeddings(len(made.tokenizer))
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def ids_of(lm: Any, text: str) -> torch.Tensor:
    return torch.tensor([lm.tokenizer(text, add_special_tokens=False).input_ids])


def test_a_word_becomes_one_token_at_the_mean_of_the_old(folder: Path) -> None:
    old, lm = CausalLanguageModel(folder), CausalLanguageModel(folder)
    lm.add_tokens(WORDS)
    ids = ids_of(lm, "<see>a red<done>")
    first, last = len(old.tokenizer or []), len(old.tokenizer or []) + 1
    assert (ids[0, 0].item(), ids[0, -1].item()) == (first, last)
    mean = old.model.get_input_embeddings().weight.mean(0)
    embedded = lm.embed(ids)
    assert_close(embedded[0, 0], mean)
    assert_close(embedded[0, -1], mean)
    assert torch.equal(embedded[:, 1:-1], old.embed(ids[:, 1:-1]))


def test_logits_of_old_tokens_stay_and_new_ones_start_at_the_mean(folder: Path) -> None:
    old, lm = CausalLanguageModel(folder).eval(), CausalLanguageModel(folder).eval()
    lm.add_tokens(WORDS)
    ids = ids_of(old, "a red circle")
    seen = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        before, after = (m.logits(old.embed(ids), seen) for m in (old, lm))
    assert_close(after[..., : before.shape[-1]], before)
    assert after.shape[-1] == before.shape[-1] + 2
    expected = before.mean(-1, keepdim=True).expand(-1, -1, 2)
    assert_close(after[..., -2:], expected, atol=1e-5, rtol=1e-4)


def test_they_train_where_all_else_is_frozen(folder: Path) -> None:
    lm = CausalLanguageModel(folder)
    lm.add_tokens(WORDS)
    freeze(lm)
    trainable = {name for name, weight in lm.named_parameters() if weight.requires_grad}
    assert trainable == {"new_tokens.read", "new_tokens.written"}
    frozen = {name: w.clone() for name, w in lm.state_dict().items() if name not in trainable}

    ids = ids_of(lm, "<see>a red circle<done>")
    labels = ids.clone()
    labels[:, :-1] = -100
    optimizer = torch.optim.Adam(lm.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = lm(lm.embed(ids), torch.ones_like(ids, dtype=torch.bool), labels).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    for name, value in lm.state_dict().items():
        assert name in trainable or torch.equal(value, frozen[name]), name
    new = lm.generate(lm.embed(ids[:, :-1]), torch.ones(1, ids.shape[1] - 1).bool(), [3], 1)
    assert new.item() == ids[0, -1].item()

    freeze(lm.get_submodule("new_tokens"))
    assert not any(weight.requires_grad for weight in lm.parameters())
    unfreeze(lm)
    assert all(weight.requires_grad for weight in lm.parameters())


def test_gradients_reach_each_row_that_is_used(folder: Path) -> None:
    lm = CausalLanguageModel(folder)
    lm.add_tokens(WORDS)
    ids = ids_of(lm, "<see>a red circle")
    labels = ids.clone()
    lm(lm.embed(ids), torch.ones_like(ids, dtype=torch.bool), labels).total.backward()
    assert lm.new_tokens is not None
    assert lm.new_tokens.read.grad is not None
    assert lm.new_tokens.read.grad.abs().sum(1).gt(0).tolist() == [True, False]
    assert lm.new_tokens.written.grad is not None
    assert lm.new_tokens.written.grad.abs().sum(1).gt(0).tolist() == [True, True]


def test_a_rebuilt_model_has_them_without_a_tokenizer(folder: Path) -> None:
    lm = CausalLanguageModel(folder)
    lm.add_tokens(WORDS)
    assert lm.new_tokens is not None
    with torch.no_grad():
        lm.new_tokens.read.normal_()
    again = CausalLanguageModel(**lm.rebuild_config()["init_args"])
    again.add_tokens(["<other>"])  # as the model does; what was recorded counts
    again.load_state_dict(lm.state_dict())
    again.load_checkpoint_state(lm.checkpoint_state())
    ids = ids_of(lm, "<see>a red<done>")
    assert torch.equal(ids_of(again, "<see>a red<done>"), ids)
    assert torch.equal(again.embed(ids), lm.embed(ids))


def test_known_words_are_not_added(folder: Path) -> None:
    lm = CausalLanguageModel(folder)
    assert lm.tokenizer is not None
    lm.add_tokens([str(lm.tokenizer.eos_token)])
    assert lm.new_tokens is None
    assert lm.rebuild_config()["init_args"]["new_tokens"] == []


def test_a_tokenizer_made_in_training_keeps_room_for_them() -> None:
    lm = CausalLanguageModel(config=SIZES)
    lm.add_tokens(WORDS)
    lm.train_tokenizer(TEXTS)
    assert lm.tokenizer is not None
    assert len(lm.tokenizer) <= 300
    assert len(ids_of(lm, "<done>")[0]) == 1
    assert lm.embed(ids_of(lm, "<done>")).shape == (1, 1, 16)


def test_users_cannot_type_them(folder: Path) -> None:
    lm = CausalLanguageModel(folder)
    lm.add_tokens(WORDS)
    assert lm.tokenizer is not None
    typed = lm.tokenizer("<see>", add_special_tokens=False, split_special_tokens=True).input_ids
    assert len(typed) > 1


def test_generation_reads_them_as_training_does(folder: Path) -> None:
    lm = CausalLanguageModel(folder).eval()
    lm.add_tokens(WORDS)
    assert lm.new_tokens is not None
    inputs = lm.embed(ids_of(lm, "a red circle"))
    seen = torch.ones(inputs.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        said = lm.logits(inputs, seen)[0, -1].argmax()
        lm.new_tokens.written[0] = 3 * lm.model.get_output_embeddings().weight[said]
        lm.new_tokens.read.normal_(std=3)
    new = lm.generate(inputs, seen, [3], max_new_tokens=8)
    first_new = len(lm.tokenizer or []) - len(WORDS)
    assert (new[:, :-1] >= first_new).any(), "a new token must be said before another"
    for step in range(new.shape[1]):
        with torch.no_grad():
            likeliest = lm.logits(inputs, torch.ones(inputs.shape[:2]).bool())[:, -1].argmax(-1)
        assert torch.equal(likeliest, new[:, step]), step
        inputs = torch.cat([inputs, lm.embed(new[:, step : step + 1])], 1)


def test_adding_more_keeps_the_earlier_ones(folder: Path) -> None:
    lm = CausalLanguageModel(folder)
    lm.add_tokens(["<see>"])
    assert lm.new_tokens is not None
    with torch.no_grad():
        lm.new_tokens.read.fill_(5)
    lm.add_tokens(["<done>", "<see>"])
    assert lm.new_tokens.words == ("<see>", "<done>")
    embedded = lm.embed(ids_of(lm, "<see><done>"))
    assert embedded[0, 0].tolist() == [5.0] * 16
    assert embedded[0, 1].tolist() != [5.0] * 16


@pytest.mark.parametrize("kind", ["modules_to_save", "target_modules"])
def test_merging_an_adapted_head_keeps_their_logits(kind: str, tmp_path: Path) -> None:
    made = model(tie_word_embeddings=False)
    made.model.save_pretrained(tmp_path)  # with rows to spare
    made.tokenizer.save_pretrained(tmp_path)
    lm = CausalLanguageModel(tmp_path, lora={"r": 2, kind: ["lm_head"]}, new_tokens=WORDS).eval()
    with torch.no_grad():
        for weight in lm.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    ids = ids_of(lm, "<see>a red circle")
    seen = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        before = lm.logits(lm.embed(ids), seen)
        lm.merge()
        after = lm.logits(lm.embed(ids), seen)
    assert_close(after, before, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_adapters_on_a_full_table_and_new_tokens_do_not_go_together(folder: Path) -> None:
    lm = CausalLanguageModel(folder, lora={"r": 2, "modules_to_save": ["embed_tokens", "lm_head"]})
    with pytest.raises(ValueError, match="lora must leave embeddings and head alone where tokens"):
        lm.add_tokens(WORDS)


@pytest.mark.parametrize("words", [["<see>", "<see>"], [""], "<see>", ["<|end|>"]])
def test_refuses_words_that_are_no_new_tokens(folder: Path, words: Any) -> None:
    with pytest.raises(ValueError, match="new_tokens must be a list of different words that are"):
        CausalLanguageModel(folder, new_tokens=words)
