from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch.testing import assert_close

from lit_vlm import VisionLanguageModel
from lit_vlm.connectors import LinearConnector
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.encoders import TimmEncoder
from lit_vlm.freezing import freeze
from lit_vlm.language_models import IGNORED
from lit_vlm.language_models.lora import has_lora, merge_lora
from lit_vlm.language_models.seq2seq import Seq2SeqLanguageModel
from lit_vlm.prompts import Plain

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "dropout_rate": 0.0,
}
BART: dict[str, Any] = {
    "vocab_size": 64,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "max_position_embeddings": 64,
    "dropout": 0.0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "t5": SIZES,
    "mt5": SIZES,
    "umt5": SIZES,
    "bart": BART,  # positions are absolute
}
UNTIED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
LORA: dict[str, Any] = {"r": 2, "target_modules": ["q", "v"]}


def model(kind: str = "t5", sizes: dict[str, Any] | None = None, **others: Any) -> Any:
    """Make a model whose every weight matters, also those that begin as zeros or ones."""
    torch.manual_seed(0)
    config = {"model_type": kind, **FAMILIES[kind], **(sizes or {})}
    made = Seq2SeqLanguageModel(config=config, **others)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


def batch(made: Seq2SeqLanguageModel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ids, embeddings, mask and labels: two answers in the first text, one in the other."""
    torch.manual_seed(1)
    ids = torch.randint(3, 60, (2, 9))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, 7:] = False
    labels = torch.full_like(ids, IGNORED)
    for row, places in ((0, [3, 4, 7, 8]), (1, [4, 5, 6])):
        labels[row, places] = ids[row, places]
    return ids, made.embed(ids), mask, labels


def gradients(made: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    made.zero_grad()
    torch.autograd.backward(loss)
    return {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


def alone(made: Seq2SeqLanguageModel, prompt: Tensor, answer: Tensor) -> Tensor:
    """Return the loss of one answer, of transformers' model itself."""
    start = made.model.config.decoder_start_token_id
    output = made.model(
        inputs_embeds=prompt[None], decoder_input_ids=pad(answer[:-1], (1, 0), value=start)[None]
    )
    return cross_entropy(output.logits[0], answer, reduction="sum")


def greedily(made: Seq2SeqLanguageModel, prompt: Tensor, steps: int) -> list[int]:
    """Generate by running the decoder again for each token, without padding or a cache."""
    said = [made.model.config.decoder_start_token_id]
    with torch.no_grad():
        for _ in range(steps):
            output = made.model.eval()(
                inputs_embeds=prompt[None], decoder_input_ids=torch.tensor([said]), use_cache=False
            )
            said.append(int(output.logits[0, -1].argmax()))
    return said[1:]


@pytest.mark.parametrize("kind", FAMILIES)
def test_each_answer_is_learnt_from_all_that_precedes_it(kind: str) -> None:
    made = model(kind).eval()
    ids, embeddings, mask, labels = batch(made)
    loss = made(embeddings, mask, labels)
    by_hand = torch.stack(
        [
            alone(made, embeddings[0, :3], ids[0, 3:5]),
            alone(made, embeddings[0, :7], ids[0, 7:9]),
            alone(made, embeddings[1, :4], ids[1, 4:7]),
        ]
    )
    assert int(loss.num_tokens) == 7
    assert_close(loss.total, by_hand.sum())
    kept = gradients(made, loss.total)
    assert set(kept) == {name for name, _ in made.named_parameters()}


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_count(kind: str, side: str) -> None:
    made = model(kind).eval()
    _, embeddings, mask, labels = batch(made)
    expected = made(embeddings, mask, labels)
    noise = torch.randn(2, 3, made.dim)
    parts = [noise, embeddings] if side == "left" else [embeddings, noise]
    margin = (3, 0) if side == "left" else (0, 3)
    padded = made(
        torch.cat(parts, 1), pad(mask, margin, value=False), pad(labels, margin, value=IGNORED)
    )
    assert_close(padded.total, expected.total)
    assert padded.num_tokens == expected.num_tokens


def test_a_samples_very_first_token_is_not_supervised_for_want_of_a_prompt() -> None:
    made = model().eval()
    ids, embeddings, mask, _ = batch(made)
    loss = made(embeddings[:1], mask[:1], ids[:1])
    assert int(loss.num_tokens) == 8
    assert_close(loss.total, alone(made, embeddings[0, :1], ids[0, 1:]))


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_batch_without_a_supervised_token_has_loss_zero_and_gradients(kind: str) -> None:
    made = model(kind)
    _, embeddings, mask, labels = batch(made)
    mask = mask.flip(1)  # the first row's beginning is no padding, the second's is
    loss = made(embeddings.flip(0), mask.flip(0), torch.full_like(labels, IGNORED))
    assert (float(loss.total.detach()), int(loss.num_tokens)) == (0.0, 0)
    kept = gradients(made, loss.total)
    assert set(kept) == {name for name, _ in made.named_parameters()}
    assert all(not gradient.any() for gradient in kept.values())


def test_answer_logits_stand_in_reading_order() -> None:
    made = model().eval()
    _, embeddings, mask, labels = batch(made)
    logits = made.answer_logits(embeddings, mask, labels)
    assert logits.shape == (7, 64)
    first_only = labels.clone()
    first_only[0, 7:] = IGNORED
    first_only[1] = IGNORED
    assert_close(made.answer_logits(embeddings, mask, first_only), logits[:2])


def test_roles_of_tokens_are_accepted() -> None:
    made = model().eval()
    _, embeddings, mask, labels = batch(made)
    expected = made(embeddings, mask, labels).total
    assert_close(made(embeddings, mask, labels, None).total, expected)
    made.generate(embeddings, mask, [1], max_new_tokens=1, roles=None)


def test_refuses_logits_at_every_position() -> None:
    made = model()
    _, embeddings, mask, _ = batch(made)
    with pytest.raises(NotImplementedError, match="must come from a causal model, .* Call answer"):
        made.logits(embeddings, mask)


@pytest.mark.parametrize("kind", FAMILIES)
def test_prompts_of_unequal_length_are_answered_as_if_alone(kind: str) -> None:
    made = model(kind)
    prompts = [made.embed(torch.randint(3, 60, (1, length)))[0] for length in (7, 2, 4)]
    expected = [greedily(made, prompt, 6) for prompt in prompts]
    unsaid = next(i for i in range(64) if all(i not in said for said in expected))
    noise = torch.randn(7, made.dim)
    padded = torch.stack([torch.cat([noise[len(p) :], p]) for p in prompts])
    mask = torch.stack([torch.arange(7) >= 7 - len(p) for p in prompts])
    said = made.generate(padded, mask, [unsaid], max_new_tokens=6)
    assert said.tolist() == expected


def test_stops_each_row_at_its_stop_token_and_pads_with_one() -> None:
    made = model()
    prompts = made.embed(torch.randint(3, 60, (2, 5)))
    free = [greedily(made, prompt, 6) for prompt in prompts]
    unsaid = next(i for i in range(64) if i not in free[0] + free[1])
    stop = next(token for token in free[0] if token not in free[1])
    mask = torch.ones(2, 5, dtype=torch.bool)
    said = made.generate(prompts, mask, [unsaid, stop], max_new_tokens=6).tolist()
    length = free[0].index(stop) + 1
    assert said[0] == free[0][:length] + [unsaid] * (6 - length)
    assert said[1] == free[1]


def test_sampling_follows_the_seed_and_the_temperature() -> None:
    made = model(sizes={"dropout_rate": 0.5}).train()
    prompts = made.embed(torch.randint(3, 60, (4, 5)))
    mask = torch.ones(4, 5, dtype=torch.bool)

    def sample(seed: int, **options: float) -> list[list[int]]:
        torch.manual_seed(seed)
        return made.generate(prompts, mask, [1], max_new_tokens=8, **options).tolist()

    greedy = sample(0)
    assert sample(1) == greedy, "temperature 0 draws nothing, and nothing drops out"
    assert sample(0, temperature=1.0) == sample(0, temperature=1.0)
    assert sample(0, temperature=1.0) != sample(1, temperature=1.0)
    assert sample(0, temperature=1.0, top_p=1e-6) == greedy
    assert all(module.training for module in made.modules()), "generation puts modes back"


def test_sampling_draws_from_all_tokens() -> None:
    made = model().eval()
    prompt = made.embed(torch.randint(3, 60, (1, 5)))
    with torch.no_grad():
        output = made.model(inputs_embeds=prompt, decoder_input_ids=torch.zeros(1, 1).long())
    expected = output.logits[0, -1].div(9).softmax(-1)
    mask = torch.ones(4000, 5, dtype=torch.bool)
    torch.manual_seed(0)
    drawn = made.generate(prompt.expand(4000, 5, 16), mask, [1], 1, temperature=9.0)[:, 0]
    assert_close(drawn.bincount(minlength=64) / 4000, expected, atol=0.03, rtol=0)
    assert len(drawn.unique()) > 50, "transformers' default would draw from the top 50"


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_gradient_checkpointing_gives_equal_gradients(kind: str) -> None:
    plain, saving = model(kind).train(), model(kind, gradient_checkpointing=True).train()
    kept = []
    for made in (plain, saving):
        _, embeddings, mask, labels = batch(made)
        kept.append(gradients(made, made(embeddings, mask, labels).total))
    assert saved_activations(saving) < saved_activations(plain) / 2
    for name, gradient in kept[0].items():
        assert_close(kept[1][name], gradient, msg=name)


def saved_activations(made: Seq2SeqLanguageModel) -> int:
    """Count the numbers that the graph of a loss keeps for the backward pass."""
    sizes: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    _, embeddings, mask, labels = batch(made)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        made(embeddings.detach().requires_grad_(), mask, labels)
    return sum(sizes)


def test_a_frozen_model_passes_gradients_to_what_is_before_it() -> None:
    made, plain = model(gradient_checkpointing=True), model()
    freeze(made)
    freeze(plain)
    assert saved_activations(made.train()) < saved_activations(plain.train()) / 2
    _, embeddings, mask, labels = batch(made)
    embeddings = embeddings.detach().requires_grad_()
    torch.autograd.backward(made(embeddings, mask, labels).total)
    assert embeddings.grad is not None
    assert embeddings.grad[0, :3].abs().min() > 0
    assert not embeddings.grad[1, 4:].any(), "the answer is not encoded"
    assert all(parameter.grad is None for parameter in made.parameters())


def saved(folder: Path, sizes: dict[str, Any] | None = None) -> Any:
    """Save a model as it would be downloaded: weights, tokenizer, habits of generation."""
    made = model(sizes={"vocab_size": 300, **(sizes or {})})
    made.train_tokenizer(["a red circle", "a green square"])
    made.model.generation_config.update(repetition_penalty=9.0, num_beams=3)
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return made


@pytest.mark.parametrize("sizes", [{}, UNTIED])
def test_reads_weights_and_tokenizer_of_a_local_folder(
    tmp_path: Path, sizes: dict[str, Any]
) -> None:
    made = saved(tmp_path, sizes)
    again = Seq2SeqLanguageModel(pretrained=tmp_path)
    assert again.tokenizer is not None
    assert again.tokenizer("a red square").input_ids == made.tokenizer("a red square").input_ids
    assert all(module.training for module in again.modules())
    weights = again.state_dict()
    for name, value in made.state_dict().items():
        assert torch.equal(weights[name], value), name
    agree(made, again)


def test_weights_published_in_half_precision_train_in_full(tmp_path: Path) -> None:
    saved(tmp_path).model.to(torch.bfloat16).save_pretrained(tmp_path)
    again = Seq2SeqLanguageModel(pretrained=tmp_path)
    assert {weight.dtype for weight in again.parameters()} == {torch.float32}


def test_a_published_models_habits_of_generation_do_not_apply(tmp_path: Path) -> None:
    saved(tmp_path)
    again = Seq2SeqLanguageModel(pretrained=tmp_path)
    assert again.model.generation_config.repetition_penalty == 9.0
    prompts = again.embed(torch.randint(3, 60, (2, 5)))
    expected = [greedily(again, prompt, 8) for prompt in prompts]
    unsaid = next(i for i in range(300) if i not in expected[0] + expected[1])
    mask = torch.ones(2, 5, dtype=torch.bool)
    assert again.generate(prompts, mask, [unsaid], max_new_tokens=8).tolist() == expected


@pytest.mark.parametrize(
    ("config", "start"),
    [
        ({}, 0),
        ({"decoder_start_token_id": 5}, 5),
        ({"pad_token_id": 7}, 7),
        ({"pad_token_id": 7, "decoder_start_token_id": 5}, 5),
    ],
)
def test_the_decoder_starts_from_its_own_token_or_from_padding(
    config: dict[str, int], start: int
) -> None:
    made = model(sizes=config)
    assert made.model.config.decoder_start_token_id == start
    assert made.rebuild_config()["init_args"]["config"]["decoder_start_token_id"] == start


def test_needs_a_token_that_the_decoder_starts_from() -> None:
    with pytest.raises(ValueError, match="must have decoder_start_token_id or pad_token_id"):
        model(sizes={"pad_token_id": None})


def test_refuses_a_tokenizer_larger_than_the_embeddings(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(ValueError, match=r"than the model has embeddings \(64\), got 2\d\d"):
        model(tokenizer=tmp_path)


def test_says_what_to_do_about_a_folder_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="Seq2Seq.*must find '.*none' as a folder or on the hub"):
        Seq2SeqLanguageModel(pretrained=tmp_path / "none")


def test_needs_weights_or_sizes() -> None:
    with pytest.raises(ValueError, match="Seq2Seq.* must have pretrained .*, or config"):
        Seq2SeqLanguageModel()


def test_sizes_beside_weights_must_be_theirs(tmp_path: Path) -> None:
    made = model(sizes={"vocab_size": 300})
    made.train_tokenizer(["it is red"])
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    sizes = made.rebuild_config()["init_args"]["config"]
    again = Seq2SeqLanguageModel(tmp_path, sizes)
    assert_close(again.state_dict(), made.state_dict())
    with pytest.raises(ValueError, match="Seq2Seq.* got d_ff=48, and they have"):
        Seq2SeqLanguageModel(tmp_path, sizes | {"d_ff": 48})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "t5", "d_model": 16}, r"must have vocab_size, got \['d_model'\]"),
        ({"model_type": "t6", "vocab_size": 64}, r"transformers knows \(t5, .*, got 't6'"),
        ({"model_type": "llama", "vocab_size": 64}, "of an encoder-decoder .*, got 'llama'"),
    ],
)
def test_refuses_sizes_of_no_encoder_decoder(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Seq2SeqLanguageModel(config=config)


def test_random_weights_are_not_quantised() -> None:
    with pytest.raises(ValueError, match="must come with pretrained weights, got '4bit'"):
        model(quantization="4bit")


def test_quantisation_is_passed_on_and_its_weights_are_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr("lit_vlm.language_models.pretrained.quantization_config", asked.append)
    made = Seq2SeqLanguageModel(pretrained=tmp_path, quantization="8bit", lora=LORA)
    assert asked == ["8bit"]
    recorded = made.init_config
    recorded["init_args"]["new_tokens"] = []
    assert made.rebuild_config() == recorded


def test_merged_adapters_are_not_put_back_by_a_checkpoint(tmp_path: Path) -> None:
    made = model(lora=LORA)
    merge_lora(made.model)
    save_checkpoint(made, tmp_path / "merged.ckpt")
    again = Seq2SeqLanguageModel.load_from_checkpoint(tmp_path / "merged.ckpt", weights_only=True)
    assert not has_lora(again.model)
    agree(made, again)


def test_new_tokens_are_read_by_the_encoder_and_predicted_by_the_decoder() -> None:
    made = model(sizes={"vocab_size": 300})
    made.train_tokenizer(["a red circle"])
    made.add_tokens(["<see>", "<done>"])
    assert made.tokenizer is not None
    assert made.new_tokens is not None
    freeze(made)
    ids = torch.tensor([made.tokenizer("<see>a red<done>", add_special_tokens=False).input_ids])
    labels = torch.where(torch.arange(ids.shape[1]) == ids.shape[1] - 1, ids, IGNORED)
    made(made.embed(ids), torch.ones_like(ids, dtype=torch.bool), labels).total.backward()
    for name, used in (("read", [True, False]), ("written", [True, True])):
        gradient = getattr(made.new_tokens, name).grad
        assert gradient.abs().sum(1).gt(0).tolist() == used, name
    assert all(p.grad is None for n, p in made.named_parameters() if "new_tokens" not in n)


def test_only_adapters_train_and_unfreezing_respects_it() -> None:
    made = model(lora=LORA, gradient_checkpointing=True)
    trained = {name for name, p in made.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    made.freeze()
    assert not any(p.requires_grad for p in made.parameters())
    made.unfreeze()
    assert {name for name, p in made.named_parameters() if p.requires_grad} == trained
    assert made.training
    _, embeddings, mask, labels = batch(made)
    assert set(gradients(made, made(embeddings, mask, labels).total)) == trained


def agree(one: Seq2SeqLanguageModel, other: Seq2SeqLanguageModel) -> None:
    with torch.no_grad():
        losses = []
        for made in (one.eval(), other.eval()):
            _, embeddings, mask, labels = batch(made)
            losses.append(made(embeddings, mask, labels).total)
    assert torch.equal(*losses)


def save_checkpoint(made: Seq2SeqLanguageModel, path: Path) -> None:
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_model_summary=False, enable_progress_bar=False
    )
    trainer.strategy.connect(made)
    trainer.save_checkpoint(path)


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("sizes", [{}, UNTIED])
@pytest.mark.parametrize("lora", [None, {"r": 2}, {"r": 2, "modules_to_save": ["lm_head"]}])
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True` and a tied layer")
def test_a_checkpoint_of_the_model_alone_suffices(
    tmp_path: Path, kind: str, sizes: dict[str, Any], lora: dict[str, Any] | None
) -> None:
    made = model(kind, sizes if kind != "bart" else {}, lora=lora)
    for generation in ("first.ckpt", "second.ckpt"):
        save_checkpoint(made, tmp_path / generation)
        again = Seq2SeqLanguageModel.load_from_checkpoint(tmp_path / generation, weights_only=True)
        agree(made, again)
        assert [p.requires_grad for p in again.parameters()] == [
            p.requires_grad for p in made.parameters()
        ]
        made = again


@pytest.mark.parametrize("sizes", [{}, UNTIED])
def test_a_checkpoint_of_pretrained_weights_needs_no_files(
    tmp_path: Path, sizes: dict[str, Any]
) -> None:
    folder = tmp_path / "published"
    saved(folder, sizes)
    made = Seq2SeqLanguageModel(pretrained=folder, gradient_checkpointing=True, lora=LORA)
    for file in folder.iterdir():
        file.unlink()
    for generation in ("first.ckpt", "second.ckpt"):
        save_checkpoint(made, tmp_path / generation)
        again = Seq2SeqLanguageModel.load_from_checkpoint(tmp_path / generation, weights_only=True)
        agree(made, again)
        assert again.gradient_checkpointing
        assert again.tokenizer is not None
        assert made.tokenizer is not None
        assert again.tokenizer.get_vocab() == made.tokenizer.get_vocab()
        made = again


def test_trains_and_answers_about_pictures_and_its_checkpoint_suffices(
    color_questions: Callable[[list[bool]], Path], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    eye = TimmEncoder(
        "test_vit",
        image_size=16,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        config={"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8},
    )
    config = {"model_type": "t5", **SIZES, "vocab_size": 300}
    made = VisionLanguageModel(
        eye,
        Seq2SeqLanguageModel(config=config),
        connector=LinearConnector,
        prompt=Plain(),
        learning_rate=0.02,
        weight_decay=0.0,
        warmup=0,
        schedule="constant",
        max_new_tokens=6,
    )
    data = ConversationDataModule(
        train=JSONConversations(color_questions([True] * 4)), batch_size=4
    )
    trainer = Trainer(
        accelerator="cpu",
        max_steps=40,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(tmp_path),
        log_every_n_steps=100,
    )
    trainer.fit(made, data)
    assert [n for n, p in made.named_parameters() if p.grad is None] == []

    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=False)
    loaded = VisionLanguageModel.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert loaded.rebuild_config() == made.rebuild_config()
    source: Any = {"test": JSONConversations(color_questions([True] * 4))}
    data = ConversationDataModule(**source, batch_size=4, probes=())
    data.processor = loaded.processor
    data.setup("test")
    loader: Any = data.test_dataloader()
    [questions] = loader[0] if isinstance(loader, list) else loader
    answers = [reference.answer for reference in questions.references]
    assert loaded.eval().generate(questions) == answers, "learnt by heart, stops where they end"
    assert made.eval().generate(questions) == answers
