import builtins
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from lit_vlm.freezing import unfreeze
from lit_vlm.language_models.lora import apply_lora, has_lora, merge_lora
from lit_vlm.language_models.pretrained import quantization_config
from lit_vlm.language_models.recomputing import recompute_blocks

LLAMA = LlamaConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
)
GPT2 = GPT2Config(
    vocab_size=64,
    n_embd=16,
    n_layer=2,
    n_head=2,
    n_positions=32,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
    bos_token_id=1,
    eos_token_id=1,
)
T5 = T5Config(
    vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0
)
FAMILIES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "llama": (LlamaForCausalLM, LLAMA),
    "gpt2": (GPT2LMHeadModel, GPT2),
    "t5": (T5ForConditionalGeneration, T5),
}
LINEAR = {
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
    "t5": {"q", "k", "v", "o", "wi", "wo"},
}
TARGETS = {"llama": ["q_proj", "down_proj"], "gpt2": ["c_attn", "mlp.c_proj"], "t5": ["q", "wo"]}
EACH = pytest.mark.parametrize("kind", FAMILIES)


def model(kind: str = "llama") -> Any:
    torch.manual_seed(0)
    build, config = FAMILIES[kind]
    made = build(copy.deepcopy(config))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def logits(made: Any) -> Tensor:
    torch.manual_seed(1)
    ids = torch.randint(3, 60, (2, 5))
    embeddings = made.get_input_embeddings()(ids)
    more = {"decoder_input_ids": ids} if made.config.is_encoder_decoder else {}
    return made(inputs_embeds=embeddings, **more).logits


def trained(made: nn.Module) -> set[str]:
    return {name for name, weight in made.named_parameters() if weight.requires_grad}


def randomise(made: nn.Module) -> None:
    """Give what trains other weights, as training would."""
    torch.manual_seed(2)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.2)


@EACH
def test_fresh_adapters_change_nothing(kind: str) -> None:
    made = model(kind)
    before = logits(made)
    apply_lora(made, {"r": 4, "lora_dropout": 0.5})
    assert_close(logits(made.train()), before, atol=1e-5, rtol=1e-5, msg="not even by dropout")
    assert type(made) is FAMILIES[kind][0]


@EACH
def test_stand_beside_every_linear_layer_but_the_head(kind: str) -> None:
    made = model(kind)
    apply_lora(made, {"r": 4})
    names = {name.partition(".lora_")[0] for name in trained(made)}
    assert {name.rpartition(".")[2] for name in names} == LINEAR[kind]
    linear = [m for m in made.modules() if hasattr(m, "lora_A")]
    assert len(linear) == len(names)
    assert not hasattr(made.get_output_embeddings(), "lora_A")


@EACH
def test_only_adapters_train_and_each_gets_a_gradient(kind: str) -> None:
    made = model(kind)
    apply_lora(made, {"r": 4, "target_modules": TARGETS[kind]})
    randomise(made)
    frozen = {n: w.clone() for n, w in made.named_parameters() if not w.requires_grad}
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    torch.autograd.backward(logits(made).square().sum())
    gradients = {name for name, weight in made.named_parameters() if weight.grad is not None}
    assert gradients == trained(made)
    assert all("lora_" in name for name in gradients)
    assert all(made.get_parameter(name).grad.any() for name in gradients)
    optimizer.step()
    for name, weight in frozen.items():
        assert torch.equal(made.get_parameter(name), weight), name


def test_adapters_add_the_scaled_product_of_their_matrices() -> None:
    made = model()
    layer = made.model.layers[0].self_attn.q_proj
    x = torch.randn(3, 16)
    expected = layer(x)
    apply_lora(made, {"r": 2, "lora_alpha": 6, "target_modules": ["q_proj"]})
    randomise(made)
    layer = made.model.layers[0].self_attn.q_proj
    down, up = layer.lora_A.default.weight, layer.lora_B.default.weight
    assert (down.shape, up.shape) == ((2, 16), (16, 2))
    assert_close(layer(x), expected + 6 / 2 * x @ down.T @ up.T)


def test_dropout_acts_on_adapters_in_training_only() -> None:
    made = model()
    apply_lora(made, {"r": 2, "lora_dropout": 0.5})
    randomise(made)
    made.train()
    assert not torch.equal(next_logits(made), next_logits(made))
    made.eval()
    assert torch.equal(next_logits(made), next_logits(made))


def next_logits(made: Any) -> Tensor:
    return made(input_ids=torch.tensor([[3, 4, 5]])).logits


@pytest.mark.parametrize(
    ("targets", "chosen"),
    [
        (["q_proj", "v_proj"], {"q_proj", "v_proj"}),
        (["layers.0.mlp.up_proj"], {"up_proj"}),
        (r".*layers\.1\.self_attn\.(k|o)_proj", {"k_proj", "o_proj"}),
    ],
)
def test_targets_are_ends_of_names_or_a_regular_expression(targets: Any, chosen: set[str]) -> None:
    made = model()
    apply_lora(made, {"r": 2, "target_modules": targets})
    names = {name.partition(".lora_")[0] for name in trained(made)}
    assert {name.rpartition(".")[2] for name in names} == chosen


def test_modules_to_save_train_whole() -> None:
    made = model()
    apply_lora(made, {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]})
    whole = trained(made) - {name for name in trained(made) if "lora_" in name}
    assert whole == {"lm_head.modules_to_save.default.weight"}


@EACH
@pytest.mark.parametrize("config", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_merging_keeps_what_is_computed_and_leaves_the_model_it_was(
    kind: str, config: dict[str, Any]
) -> None:
    plain = model(kind)
    made = model(kind).eval()
    apply_lora(made, {"r": 4, "lora_alpha": 8, **config})
    randomise(made)
    with torch.no_grad():
        before = logits(made)
        merge_lora(made)
        assert_close(logits(made), before, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(before, logits(plain))
    assert list(made.state_dict()) == list(plain.state_dict())
    assert {type(m) for m in made.modules()} == {type(m) for m in plain.modules()}
    assert not has_lora(made)
    apply_lora(made, {"r": 2})  # and again


@pytest.mark.parametrize("whole", ["lm_head", "mlp", "gate_proj"])
def test_merging_keeps_modules_that_trained_whole(whole: str) -> None:
    made = model().eval()
    kinds = [type(module) for module in made.modules()]
    apply_lora(made, {"r": 4, "modules_to_save": [whole]})
    randomise(made)
    before = logits(made)
    merge_lora(made)
    assert_close(logits(made), before, atol=1e-5, rtol=1e-5)
    assert [type(module) for module in made.modules()] == kinds


@EACH
@pytest.mark.parametrize("more", [{}, {"bias": "all"}])
def test_a_state_dict_holds_all_that_trained(kind: str, more: dict[str, Any]) -> None:
    config = {"r": 4, **more}
    made, again = model(kind).eval(), FAMILIES[kind][0](copy.deepcopy(FAMILIES[kind][1])).eval()
    for each in (made, again):
        apply_lora(each, config)
    randomise(made)
    assert trained(made) <= set(made.state_dict())
    again.load_state_dict(made.state_dict(), strict=True)
    assert torch.equal(logits(again), logits(made))
    assert trained(again) == trained(made)


def test_unfreezing_goes_no_further_than_the_adapters() -> None:
    made = model()
    unfreeze(made)
    assert trained(made) == {name for name, _ in made.named_parameters()}, "no adapters yet"
    apply_lora(made, {"r": 2, "modules_to_save": ["lm_head"]})
    before = trained(made)
    made.requires_grad_(True)
    unfreeze(made)
    assert trained(made) == before
    assert trained(copy.deepcopy(made)) == before


@EACH
def test_generates_and_recomputes_blocks_with_adapters(kind: str) -> None:
    made = model(kind)
    apply_lora(made, {"r": 2})
    randomise(made)
    torch.autograd.backward(logits(made).square().sum())
    expected = {n: made.get_parameter(n).grad.clone() for n in trained(made)}
    made.zero_grad()
    recompute_blocks(made)
    torch.autograd.backward(logits(made.train()).square().sum())
    for name, gradient in expected.items():
        assert_close(made.get_parameter(name).grad, gradient, atol=1e-4, rtol=1e-4)
    ids = torch.tensor([[3, 4, 5]])
    start = {"decoder_start_token_id": 0} if kind == "t5" else {}
    embeddings = made.get_input_embeddings()(ids)
    mask = torch.ones_like(ids)
    options = {"max_new_tokens": 1, "pad_token_id": 0, **start}
    said = made.eval().generate(inputs_embeds=embeddings, attention_mask=mask, **options)
    merge_lora(made)
    merged = made.generate(inputs_embeds=embeddings, attention_mask=mask, **options)
    assert torch.equal(said, merged)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"lora_alpa": 8}, "arguments of peft.LoraConfig, got 'lora_alpa'. Did.*: lora_alpha"),
        ({"rank": 8}, r"arguments of peft.LoraConfig, got 'rank'\."),
        ({"target_modules": ["q_prj"]}, "target_modules must name .*Llama.*'q_prj'.*: .*q_proj"),
        ({"target_modules": ["q_proj", "x"]}, "got 'x'. Accepted: .*q_proj"),
        ({"modules_to_save": ["lm_heads"]}, "modules_to_save must name .*'lm_heads'.*: lm_head"),
        ({"target_modules": "none.*"}, "config must be one that peft can apply to LlamaForCausal"),
        ({"target_modules": ["mlp"]}, "config must be one that peft can apply .*LlamaMLP"),
        ({"r": 0}, "config must be one that peft can apply .*positive integer"),
    ],
)
def test_says_what_is_wrong_with_a_config(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)apply_lora: .*{message}"):
        apply_lora(model(), config)


def test_adapters_are_put_once_and_merged_once() -> None:
    made = model()
    with pytest.raises(ValueError, match="merge_lora: the model must have adapters, got none"):
        merge_lora(made)
    apply_lora(made, {"r": 2})
    with pytest.raises(ValueError, match="must not have adapters, got one that has. Call merge"):
        apply_lora(made, {"r": 2})


@pytest.mark.parametrize("call", [lambda m: apply_lora(m, {}), merge_lora])
def test_says_how_to_install_peft(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], None]
) -> None:
    whole_import = builtins.__import__

    def without_peft(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "peft":
            raise ImportError(name)
        return whole_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(ImportError, match=r'peft must be installed: pip install "lit-vlm\[lora\]"'):
        call(model())


def test_says_how_to_install_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    # What it returns where bitsandbytes is installed has not been run.
    monkeypatch.setattr("lit_vlm.language_models.pretrained.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'bitsandbytes must .*pip install "lit-vlm\[quantized\]'):
        quantization_config("4bit")


def test_refuses_another_quantisation() -> None:
    kind: Any = "2bit"
    with pytest.raises(Exception, match="4bit"):  # a type checker may come first
        quantization_config(kind)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_merging_a_tied_head_leaves_the_embeddings_alone() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "vocab_size": 64, "tie_word_embeddings": True}
    made: Any = LlamaForCausalLM(LlamaConfig(**sizes)).eval()
    apply_lora(made, {"r": 2, "target_modules": ["q_proj", "lm_head"]})
    randomise(made)
    before = logits(made)
    merge_lora(made)
    assert_close(logits(made), before, atol=1e-5, rtol=1e-5)


def test_unfreezing_a_module_goes_no_further_than_its_adapters() -> None:
    made = model()
    apply_lora(made, {"r": 2})
    before = trained(made)
    unfreeze(made.get_submodule("model.layers.0"))
    assert trained(made) == before


@pytest.mark.parametrize("config", [{"r": "8"}, {"target_modules": "q_[proj"}, {"bias": "alll"}])
def test_explains_values_that_peft_refuses(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="apply_lora: config must be one that peft can apply"):
        apply_lora(model(), config)
