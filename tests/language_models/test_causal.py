import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close
from transformers.modeling_layers import GradientCheckpointingLayer

from lit_vlm.freezing import freeze, unfreeze
from lit_vlm.language_models import IGNORED, CausalLanguageModel
from lit_vlm.testing import check_language_model

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
GROUPED = SIZES | {"num_key_value_heads": 1}
GPT2: dict[str, Any] = {
    "vocab_size": 64,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 64,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
WINDOW = {"head_dim": 8, "sliding_window": 4}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": GROUPED | {"head_dim": 8},
    "mistral": GROUPED | WINDOW,
    "gemma2": GROUPED | WINDOW | {"final_logit_softcapping": 1.0},
    "gemma3_text": GROUPED | WINDOW,
    "granite": GROUPED | {"logits_scaling": 3.0},
    "phi3": GROUPED | {"pad_token_id": 0},
    "gpt_neox": SIZES,
    "gpt2": GPT2,
}


def model(kind: str = "llama", **others: Any) -> CausalLanguageModel:
    """Make a model whose every weight matters, also those that begin as zeros or ones."""
    torch.manual_seed(0)
    sizes = {"bos_token_id": 1, "eos_token_id": 2} | FAMILIES[kind]
    made = CausalLanguageModel(config={"model_type": kind, **sizes}, **others)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


def batch(made: CausalLanguageModel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ids, embeddings, mask and labels of two texts, one of them padded."""
    torch.manual_seed(1)
    ids = torch.randint(3, 60, (2, 8))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, 6:] = False
    labels = ids.masked_fill(~mask, IGNORED)
    labels[:, :3] = IGNORED
    labels[0, 5] = IGNORED
    return ids, made.embed(ids), mask, labels


def gradients(made: CausalLanguageModel, loss: Tensor) -> dict[str, Tensor]:
    made.zero_grad()
    torch.autograd.backward(loss)
    return {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


def greedily(made: CausalLanguageModel, embeddings: Tensor, steps: int) -> Tensor:
    """Generate by running the whole text again for each token, without a cache."""
    said: list[Tensor] = []
    with torch.no_grad():
        for _ in range(steps):
            mask = torch.ones(embeddings.shape[:2], dtype=torch.bool)
            said.append(made.eval().logits(embeddings, mask)[:, -1].argmax(-1))
            embeddings = torch.cat([embeddings, made.embed(said[-1][:, None])], 1)
    return torch.stack(said, 1)


@pytest.mark.parametrize("kind", FAMILIES)
def test_contract(kind: str) -> None:
    check_language_model(model(kind))


@pytest.mark.parametrize("kind", FAMILIES)
def test_loss_and_gradients_are_those_of_the_logits_at_every_position(kind: str) -> None:
    made = model(kind).eval()
    _, embeddings, mask, labels = batch(made)
    loss = made(embeddings, mask, labels)
    kept = gradients(made, loss.total)

    _, embeddings, mask, labels = batch(made)
    logits = made.logits(embeddings, mask)[:, :-1]
    whole = cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    assert_close(loss.total, whole)
    assert int(loss.num_tokens) == int((labels != IGNORED).sum())
    for name, gradient in gradients(made, whole).items():
        assert_close(kept[name], gradient, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "granite", "gpt2"])
def test_loss_is_transformers_own(kind: str) -> None:
    made = model(kind).eval()
    ids, embeddings, mask, labels = batch(made)
    with torch.no_grad():
        theirs = made.model(input_ids=ids, attention_mask=mask.long(), labels=labels).loss
        ours = made(embeddings, mask, labels)
    assert_close(ours.total / ours.num_tokens, theirs)


def test_the_familys_own_treatment_of_logits_applies() -> None:
    made = model("gemma2").eval()
    _, embeddings, mask, _ = batch(made)
    assert made.logits(embeddings, mask).abs().max() <= 1.0, "capped at final_logit_softcapping"
    made.model.config.final_logit_softcapping = None
    assert made.logits(embeddings, mask).abs().max() > 1.0


def test_logits_are_computed_at_supervised_positions_only() -> None:
    made = model()
    _, embeddings, mask, labels = batch(made)
    rows: list[int] = []
    head = made.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _, args, output: rows.append(output[..., 0].numel()))
    loss = made(embeddings, mask, labels)
    handle.remove()
    assert rows == [int(loss.num_tokens)]
    assert not head._forward_pre_hooks, "the hook must be gone"


def test_padding_on_the_left_does_not_count() -> None:
    made = model().eval()
    _, embeddings, _, labels = batch(made)
    embeddings, labels = embeddings[1:, :6], labels[1:, :6]
    mask = torch.ones(1, 6, dtype=torch.bool)
    expected = made(embeddings, mask, labels)
    padded = torch.cat([torch.randn(1, 2, made.dim), embeddings], 1)
    before = nn.functional.pad(labels, (2, 0), value=IGNORED)
    loss = made(padded, nn.functional.pad(mask, (2, 0), value=False), before)
    assert_close(loss.total, expected.total)


def test_a_batch_without_a_supervised_token_has_loss_zero_and_gradients() -> None:
    made = model()
    _, embeddings, mask, labels = batch(made)
    loss = made(embeddings, mask, torch.full_like(labels, IGNORED))
    assert (float(loss.total.detach()), int(loss.num_tokens)) == (0.0, 0)
    assert set(gradients(made, loss.total)) == {name for name, _ in made.named_parameters()}


@pytest.mark.parametrize("kind", FAMILIES)
def test_greedy_decoding_is_that_of_a_loop_without_cache(kind: str) -> None:
    made = model(kind)
    embeddings = made.embed(torch.randint(3, 60, (3, 5)))
    mask = torch.ones(3, 5, dtype=torch.bool)
    expected = greedily(made, embeddings, 8)
    unsaid = next(i for i in range(64) if i not in expected)  # nothing stops it
    assert torch.equal(made.generate(embeddings, mask, [unsaid], max_new_tokens=8), expected)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2"])
def test_prompts_of_unequal_length_are_continued_as_if_alone(kind: str) -> None:
    made = model(kind)
    prompts = [torch.randint(3, 60, (1, length)) for length in (7, 2, 4)]
    alone = torch.cat([greedily(made, made.embed(ids), 6) for ids in prompts])
    unsaid = next(i for i in range(64) if i not in alone)
    padded = torch.stack([nn.functional.pad(ids[0], (7 - ids.shape[1], 0)) for ids in prompts])
    mask = torch.stack([torch.arange(7) >= 7 - ids.shape[1] for ids in prompts])
    together = made.generate(made.embed(padded), mask, [unsaid], max_new_tokens=6)
    assert torch.equal(together, alone)


def test_stops_each_row_at_its_stop_token_and_pads_with_one() -> None:
    made = model()
    embeddings = made.embed(torch.randint(3, 60, (2, 5)))
    mask = torch.ones(2, 5, dtype=torch.bool)
    free = greedily(made, embeddings, 6).tolist()
    unsaid = next(i for i in range(64) if i not in free[0] + free[1])
    stop = next(token for token in free[0] if token not in free[1])
    said = made.generate(embeddings, mask, [unsaid, stop], max_new_tokens=6).tolist()
    length = free[0].index(stop) + 1
    assert said[0] == free[0][:length] + [unsaid] * (6 - length)
    assert said[1] == free[1]


def test_sampling_follows_the_seed_the_temperature_and_top_p() -> None:
    made = model()
    embeddings = made.embed(torch.randint(3, 60, (4, 5)))
    mask = torch.ones(4, 5, dtype=torch.bool)

    def sample(seed: int, **options: Any) -> list[list[int]]:
        torch.manual_seed(seed)
        return made.generate(embeddings, mask, [1], max_new_tokens=8, **options).tolist()

    greedy = sample(0)
    assert sample(1) == greedy, "temperature 0 draws nothing"
    assert sample(0, temperature=1.0) == sample(0, temperature=1.0)
    assert sample(0, temperature=1.0) != sample(1, temperature=1.0)
    assert sample(0, temperature=1.0, top_p=1e-6) == greedy
    assert sample(0, temperature=1e-4) == greedy


def test_sampling_draws_from_all_tokens() -> None:
    made = model()
    embeddings = made.embed(torch.randint(3, 60, (1, 5))).expand(4000, 5, 16)
    mask = torch.ones(4000, 5, dtype=torch.bool)
    with torch.no_grad():
        expected = made.eval().logits(embeddings[:1], mask[:1])[0, -1].softmax(-1)
    torch.manual_seed(0)
    drawn = made.generate(embeddings, mask, [1], max_new_tokens=1, temperature=1.0)[:, 0]
    share = drawn.bincount(minlength=64) / len(drawn)
    assert_close(share, expected, atol=0.03, rtol=0)
    assert (expected > 0.002).sum() > 50, "transformers' default would draw from the top 50"


def test_generation_puts_every_mode_back() -> None:
    made = model().train()
    made.model.model.layers[0].eval()
    before = {name: module.training for name, module in made.named_modules()}
    made.generate(made.embed(torch.ones(1, 2).long()), torch.ones(1, 2).bool(), [1], 2)
    assert {name: module.training for name, module in made.named_modules()} == before


def saved(folder: Path, kind: str = "llama") -> CausalLanguageModel:
    """Save a model as it would be downloaded: weights, tokenizer, habits of generation."""
    made = model(kind)
    rows = FAMILIES[kind] | {"vocab_size": 300}
    made = CausalLanguageModel(config={"model_type": kind, **rows})
    made.train_tokenizer(["a red circle", "a green square"])
    assert made.tokenizer is not None
    made.model.generation_config.update(
        repetition_penalty=9.0, do_sample=True, temperature=0.7, top_k=3, max_length=9
    )
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return made


def test_reads_weights_and_tokenizer_of_a_local_folder(tmp_path: Path) -> None:
    made = saved(tmp_path)
    again = CausalLanguageModel(pretrained=tmp_path)
    assert again.tokenizer is not None
    assert made.tokenizer is not None
    text = "a red square"
    assert again.tokenizer(text).input_ids == made.tokenizer(text).input_ids
    weights = again.state_dict()
    for name, value in made.state_dict().items():
        assert torch.equal(weights[name], value), name


def test_weights_published_in_half_precision_train_in_full(tmp_path: Path) -> None:
    made = saved(tmp_path)
    made.model.to(torch.bfloat16).save_pretrained(tmp_path)
    again = CausalLanguageModel(pretrained=tmp_path)
    assert {weight.dtype for weight in again.parameters()} == {torch.float32}


def test_is_in_training_mode_after_loading(tmp_path: Path) -> None:
    saved(tmp_path)
    again = CausalLanguageModel(pretrained=str(tmp_path))
    assert all(module.training for module in again.modules())


def test_a_published_models_habits_of_generation_do_not_apply(tmp_path: Path) -> None:
    saved(tmp_path)
    again = CausalLanguageModel(pretrained=tmp_path)
    assert again.model.generation_config.repetition_penalty == 9.0
    embeddings = again.embed(torch.randint(3, 60, (2, 5)))
    expected = greedily(again, embeddings, 12)
    unsaid = next(i for i in range(300) if i not in expected)
    mask = torch.ones(2, 5, dtype=torch.bool)
    assert torch.equal(again.generate(embeddings, mask, [unsaid], max_new_tokens=12), expected)
    assert again.model.generation_config.repetition_penalty == 9.0, "kept for export"


def test_refuses_a_tokenizer_larger_than_the_embeddings(tmp_path: Path) -> None:
    saved(tmp_path)
    config = {"model_type": "llama", **GROUPED}
    with pytest.raises(ValueError, match=r"than the model has embeddings \(64\), got 2\d\d"):
        CausalLanguageModel(config=config, tokenizer=tmp_path)


@pytest.mark.parametrize("what", ["pretrained", "tokenizer"])
def test_says_what_to_do_about_a_folder_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    arguments: dict[str, Any] = {what: str(tmp_path / "none")}
    if what == "tokenizer":
        arguments["config"] = {"model_type": "llama", **GROUPED}
    with pytest.raises(OSError, match="must find '.*none' as a folder or on the hub.* Give"):
        CausalLanguageModel(**arguments)


def test_needs_weights_or_sizes() -> None:
    with pytest.raises(ValueError, match="must have pretrained .*, or config .*, got neither"):
        CausalLanguageModel()


def test_sizes_beside_weights_must_be_theirs(tmp_path: Path) -> None:
    made = saved(tmp_path)
    sizes = {"model_type": "llama", **GROUPED, "vocab_size": 300}
    again = CausalLanguageModel(tmp_path, sizes)
    assert_close(again.state_dict(), made.state_dict())
    rebuilt = again.rebuild_config()["init_args"]
    assert rebuilt["pretrained"] is None
    assert rebuilt["config"]["num_key_value_heads"] == 1

    message = "config must say what the weights '.*' are, got hidden_size=32, and they have 16"
    with pytest.raises(ValueError, match=f"CausalLanguageModel: {message}. Give theirs"):
        CausalLanguageModel(tmp_path, sizes | {"hidden_size": 32})
    with pytest.raises(ValueError, match="got model_type='qwen2', and they have 'llama'"):
        CausalLanguageModel(tmp_path, sizes | {"model_type": "qwen2"})


def test_sizes_beside_weights_must_be_whole(tmp_path: Path) -> None:
    saved(tmp_path)
    message = r"got the shape \(16, 16\) for .*k_proj.weight, and theirs has the shape \(8, 16\)"
    with pytest.raises(ValueError, match=f"{message}. Give more of their fields"):
        CausalLanguageModel(tmp_path, {"model_type": "llama", **SIZES, "vocab_size": 300})


def test_refuses_sizes_without_a_vocabulary() -> None:
    with pytest.raises(ValueError, match=r"config must have vocab_size, got \['hidden_size'\]"):
        CausalLanguageModel(config={"model_type": "llama", "hidden_size": 16})


@pytest.mark.parametrize("kind", ["lama", None])
def test_refuses_an_unknown_model_type(kind: str | None) -> None:
    config = {"vocab_size": 64} | ({} if kind is None else {"model_type": kind})
    with pytest.raises(ValueError, match=f"model_type that transformers knows .*, got {kind!r}"):
        CausalLanguageModel(config=config)


def test_refuses_a_model_type_that_is_no_causal_language_model() -> None:
    with pytest.raises(ValueError, match="model_type of a causal language model .*, got 'clip'"):
        CausalLanguageModel(config={"model_type": "clip", "vocab_size": 64})


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_gradient_checkpointing_gives_equal_gradients(kind: str) -> None:
    plain, saving = model(kind), model(kind, gradient_checkpointing=True)
    kept = []
    for made in (plain, saving):
        made.train()
        _, embeddings, mask, labels = batch(made)
        kept.append(gradients(made, made(embeddings, mask, labels).total))
    assert saved_activations(saving) < saved_activations(plain) / 2
    for name, gradient in kept[0].items():
        assert_close(kept[1][name], gradient, msg=name)


@pytest.mark.parametrize("how", ["alone", "by a parent", "before train"])
def test_a_frozen_model_still_recomputes_blocks(how: str) -> None:
    plain, saving = model("gpt2"), model("gpt2", gradient_checkpointing=True)
    for made in (plain, saving):
        parent = nn.ModuleList([made])
        freeze(parent if how == "by a parent" else made)
        if how != "alone":
            parent.train()
    assert saved_activations(saving) < saved_activations(plain) / 2
    modes = {type(module): module.training for module in saving.modules()}
    assert modes[nn.Dropout] is False
    layers = [m for m in saving.modules() if isinstance(m, GradientCheckpointingLayer)]
    assert len(layers) == 2

    _, embeddings, mask, labels = batch(saving)
    embeddings = embeddings.detach().requires_grad_()
    torch.autograd.backward(saving(embeddings, mask, labels).total)
    assert embeddings.grad is not None
    assert embeddings.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in saving.parameters())

    unfreeze(parent)
    saving.unfreeze().eval()
    assert not any(module.training for module in saving.modules())


def test_blocks_that_are_recomputed_while_frozen_drop_nothing_out() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 32, "dropout": 0.5}
    config = SIZES | sizes | {"model_type": "opt"}  # drops out by the mode of its blocks
    made = CausalLanguageModel(config=config, gradient_checkpointing=True)
    _, embeddings, mask, _ = batch(made)
    assert not torch.equal(made.logits(embeddings, mask), made.logits(embeddings, mask))
    twin = copy.deepcopy(made)
    made.freeze().train()
    inputs = embeddings.detach().requires_grad_()
    logits = made.logits(inputs, mask)
    torch.autograd.backward(logits.sum())
    grad = inputs.grad
    inputs = embeddings.detach().requires_grad_()
    expected = twin.eval().logits(inputs, mask)
    torch.autograd.backward(expected.sum())
    assert_close(logits, expected)
    assert_close(grad, inputs.grad)


def saved_activations(made: CausalLanguageModel) -> int:
    """Count the numbers that the graph of a loss keeps for the backward pass."""
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    _, embeddings, mask, labels = batch(made)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made(embeddings.detach().requires_grad_(), mask, labels)
    return sum(sizes)


@pytest.fixture
def save_checkpoint() -> Callable[[CausalLanguageModel, Path], None]:
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_model_summary=False, enable_progress_bar=False
    )

    def save(made: CausalLanguageModel, path: Path) -> None:
        trainer.strategy.connect(made)
        trainer.save_checkpoint(path)

    return save


def agree(one: CausalLanguageModel, other: CausalLanguageModel) -> None:
    _, embeddings, mask, labels = batch(one)
    with torch.no_grad():
        loss = one.eval()(embeddings, mask, labels).total
        assert torch.equal(other.eval()(other.embed(batch(other)[0]), mask, labels).total, loss)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_checkpoint_of_the_model_alone_suffices(
    tmp_path: Path, kind: str, save_checkpoint: Callable[[CausalLanguageModel, Path], None]
) -> None:
    made = model(kind)
    for generation in ("first.ckpt", "second.ckpt"):
        save_checkpoint(made, tmp_path / generation)
        again = CausalLanguageModel.load_from_checkpoint(tmp_path / generation, weights_only=True)
        agree(made, again)
        made = again


def test_a_checkpoint_of_pretrained_weights_needs_no_files(
    tmp_path: Path, save_checkpoint: Callable[[CausalLanguageModel, Path], None]
) -> None:
    folder = tmp_path / "published"
    saved(folder)
    made = CausalLanguageModel(pretrained=folder, gradient_checkpointing=True)
    for file in folder.iterdir():
        file.unlink()
    for generation in ("first.ckpt", "second.ckpt"):
        save_checkpoint(made, tmp_path / generation)
        again = CausalLanguageModel.load_from_checkpoint(tmp_path / generation, weights_only=True)
        agree(made, again)
        assert again.gradient_checkpointing
        assert again.tokenizer is not None
        assert made.tokenizer is not None
        assert again.tokenizer.get_vocab() == made.tokenizer.get_vocab()
        made = again


@pytest.mark.parametrize("kind", ["bloom", "mamba", "falcon", "gemma2", "lfm2"])
@pytest.mark.parametrize("attention", ["multimodal_causal", "prefix"])
def test_refuses_our_attention_where_a_family_would_compute_something_else(
    kind: str, attention: str
) -> None:
    config: dict[str, Any] = {
        "model_type": kind,
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 2,
    }
    if kind != "mamba":
        config |= {"num_attention_heads": 2}
    if kind == "lfm2":
        config |= {"layer_types": ["conv", "full_attention"], "num_key_value_heads": 2}
    with pytest.raises(ValueError, match=f"attention={attention} must come with .*, got {kind}"):
        CausalLanguageModel(config=config, attention=attention)


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind != "gemma2"])
@pytest.mark.parametrize("attention", ["multimodal_causal", "prefix"])
def test_our_attention_without_images_is_the_familys_own(kind: str, attention: str) -> None:
    plain, ours = model(kind), model(kind, attention=attention)
    ours.load_state_dict(plain.state_dict())
    embeddings = plain.embed(torch.randint(3, 60, (2, 7)))
    seen = torch.ones(2, 7, dtype=torch.bool)
    with torch.no_grad():
        expected, got = (m.eval().logits(embeddings, seen) for m in (plain, ours))
    assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_suggests_an_attention_that_there_is() -> None:
    config = {"model_type": "llama", "vocab_size": 64}
    with pytest.raises(
        ValueError, match="got 'multimodal_casual'. Did you mean: multimodal_causal"
    ):
        CausalLanguageModel(config=config, attention="multimodal_casual")


def test_suggests_a_size_that_there_is() -> None:
    config = {"model_type": "llama", "vocab_size": 64, "hiden_size": 8}
    with pytest.raises(ValueError, match="got 'hiden_size'. Did you mean: hidden_size"):
        CausalLanguageModel(config=config)


def test_explains_sizes_that_do_not_go_together() -> None:
    config = {"model_type": "llama", "vocab_size": 64, "hidden_size": 10, "num_attention_heads": 3}
    with pytest.raises(ValueError, match="CausalLanguageModel: config=.* must be a network, but:"):
        CausalLanguageModel(config=config)


def test_refuses_a_model_with_towers_of_its_own() -> None:
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 4}
    vision = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config: dict[str, Any] = {"model_type": "gemma3", "vocab_size": 64}
    config |= {"text_config": text | {"intermediate_size": 8}, "vision_config": vision}
    with pytest.raises(ValueError, match="must be a language model alone, got Gemma3For"):
        CausalLanguageModel(config=config)
