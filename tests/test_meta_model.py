import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule
from transformers import (
    CLIPTextConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from lit_vlm.checkpoints import load_model
from lit_vlm.config_reader import read_fit_config
from lit_vlm.errors import ConfigError
from lit_vlm.language_models import TextEncoder
from lit_vlm.meta_model import meta_model
from lit_vlm.model import VisionLanguageModel

MakeModel = Callable[..., VisionLanguageModel]

EYE: dict[str, Any] = {"embed_dim": 1024, "depth": 24, "num_heads": 16, "patch_size": 14}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}


def config(encoder: dict[str, Any], language_model: dict[str, Any], **others: Any) -> Any:
    eye = {"class_path": "CLIPEncoder", "init_args": encoder}
    tongue = {"class_path": "CausalLanguageModel", "init_args": language_model}
    parts = {"encoder": eye, "language_model": tongue, **others}
    return {"class_path": "VisionLanguageModel", "init_args": parts}


def shapes(model: LightningModule) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}


def test_has_the_shapes_of_the_model_and_no_memory(tiny_model: MakeModel) -> None:
    model = tiny_model(sizes={"tie_word_embeddings": True})
    meta = meta_model(model.init_config)
    assert shapes(meta) == shapes(model)
    assert {weight.device.type for weight in meta.parameters()} == {"meta"}


@pytest.mark.parametrize("name", ["quickstart", "contrast_easy_vqa", "classify_easy_vqa"])
def test_builds_what_a_shipped_config_describes(name: str) -> None:
    model = meta_model(read_fit_config(["--config", name])["model"])
    assert {weight.device.type for weight in model.parameters()} == {"meta"}


def test_pretrained_weights_are_not_asked_for_where_the_config_says_their_sizes() -> None:
    model: Any = meta_model(
        config(
            {"config": EYE, "pretrained": "nobody/clip", "image_size": 336, "layers": [-2]},
            {"config": LLAMA, "pretrained": "nobody/vicuna"},
        )
    )
    # transformers' LlamaForCausalLM of 7B and LLaVA-1.5's projector
    assert sum(p.numel() for p in model.language_model.parameters()) == 6_738_415_616
    assert sum(p.numel() for p in model.connector.parameters()) == 4096 * (1024 + 1 + 4096 + 1)
    assert model.connector.num_tokens(model.encoder.num_tokens) == 576


def test_adapters_are_planned_too() -> None:
    tongue = {"config": LLAMA, "pretrained": "nobody/vicuna", "lora": {"r": 8}}
    model: Any = meta_model(config({"config": EYE, "image_size": 336}, tongue))
    trained = [p.numel() for p in model.language_model.parameters() if p.requires_grad]
    # r (in + out) of each linear layer: four of attention, three of the MLP
    assert sum(trained) == 32 * 8 * (4 * (4096 + 4096) + 3 * (4096 + 11008))


def test_sizes_of_a_local_folder_are_read_without_its_weights(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
    }
    eye = CLIPVisionConfig(**sizes, patch_size=8, image_size=32)
    tongue = LlamaConfig(**sizes, vocab_size=50, dtype="bfloat16")
    eye.save_pretrained(tmp_path / "eye")
    tongue.save_pretrained(tmp_path / "tongue")
    folders = {name: {"pretrained": str(tmp_path / name)} for name in ("eye", "tongue")}
    model: Any = meta_model(config({**folders["eye"], "image_size": 64}, folders["tongue"]))
    expected = sum(p.numel() for p in LlamaForCausalLM(tongue).parameters())
    assert sum(p.numel() for p in model.language_model.parameters()) == expected
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    # positions are those of 32 px, resampled to 64
    vision = CLIPVisionModel(eye).embeddings.position_embedding.weight.shape
    assert model.encoder.network.embeddings.position_embedding.weight.shape == vision
    assert model.encoder.grid == (8, 8)


def test_a_config_that_contradicts_a_local_folder_is_refused(tmp_path: Path) -> None:
    CLIPVisionConfig(num_hidden_layers=3).save_pretrained(tmp_path / "eye")
    LlamaConfig(vocab_size=50).save_pretrained(tmp_path / "tongue")
    CLIPTextConfig(num_hidden_layers=3).save_pretrained(tmp_path / "text")
    eye = {"config": {"num_hidden_layers": 4}, "pretrained": str(tmp_path / "eye")}
    with pytest.raises(ValueError, match=r"CLIPEncoder: .* got num_hidden_layers=4, and they have"):
        meta_model(config(eye, {"config": LLAMA}))
    tongue = {"config": LLAMA, "pretrained": str(tmp_path / "tongue")}
    with pytest.raises(ValueError, match=r"CausalLanguageModel: .* got vocab_size=32000, and they"):
        meta_model(config({"config": EYE}, tongue))
    tongue["config"] = {"model_type": "gpt2", "vocab_size": 50}
    with pytest.raises(
        ValueError, match=r"model_type of the weights .*tongue' \(llama, ...\), got"
    ):
        meta_model(config({"config": EYE}, tongue))
    text = {"model_type": "clip_text_model", "vocab_size": 50, "num_hidden_layers": 4}
    with pytest.raises(ValueError, match=r"TextEncoder: .* got vocab_size=50, and they have 49408"):
        TextEncoder.sizes_alone({"config": text, "pretrained": str(tmp_path / "text")})


def test_sizes_of_an_encoder_in_a_checkpoint_are_read(finished_run: Path) -> None:
    path = finished_run / "checkpoints/last.ckpt"
    trained: Any = load_model(path)
    record = trained.encoder.init_config
    arguments = {key: record["init_args"][key] for key in ("model_name", "layers")}
    eye = {"class_path": record["class_path"], "init_args": {**arguments, "pretrained": str(path)}}
    wanted = config({}, {"config": LLAMA})
    wanted["init_args"]["encoder"] = eye
    model: Any = meta_model(wanted)
    assert shapes(model.encoder) == shapes(trained.encoder)
    assert model.encoder.image_size == trained.encoder.image_size


@pytest.mark.parametrize(
    ("part", "arguments"),
    [
        ("encoder", {"pretrained": "nobody/clip"}),
        ("language_model", {"pretrained": "nobody/vicuna"}),
    ],
)
def test_a_part_whose_sizes_are_not_known_is_named(part: str, arguments: dict[str, Any]) -> None:
    made = {"encoder": {"config": EYE}, "language_model": {"config": LLAMA}, part: arguments}
    message = rf"model.{part}: the sizes of .* \(nobody/.*\), got no config. Give model.{part}.conf"
    with pytest.raises(ConfigError, match=message):
        meta_model(config(**made))


def test_a_dinov2_of_the_hub_is_as_large_as_its_entry_point_says() -> None:
    eye: Any = {"class_path": "DINOv2Encoder", "init_args": {"pretrained": "hub"}}
    wanted = config({}, {"config": LLAMA})
    wanted["init_args"]["encoder"] = eye
    model: Any = meta_model(wanted)
    assert model.encoder.dims == (384,)
    eye["init_args"]["pretrained"] = "facebook/dinov2-large"
    with pytest.raises(ConfigError, match="the sizes of DINOv2Encoder must be known"):
        meta_model(wanted)


def test_new_tokens_are_those_asked_for_where_the_tokenizer_is_not_read() -> None:
    def rows(**language_model: Any) -> int:
        prompt = {"class_path": "QwenVL"}
        made: Any = meta_model(
            config({"config": EYE}, {"config": LLAMA, **language_model}, prompt=prompt)
        )
        new = made.language_model.new_tokens
        return 0 if new is None else len(new.read)

    assert rows(pretrained="nobody/qwen") == rows(tokenizer="nobody/qwen") == 0
    assert rows(tokenizer="nobody/qwen", new_tokens=["<here>"]) == 1
    assert rows() > 0  # a tokenizer that is made in training has none of them


def test_quantised_weights_are_refused() -> None:
    tongue = {"config": LLAMA, "pretrained": "nobody/vicuna", "quantization": "4bit"}
    with pytest.raises(ConfigError, match="model.language_model: weights that are quantised"):
        meta_model(config({"config": EYE}, tongue))


def test_the_config_itself_is_left_as_it_was() -> None:
    wanted = config({"config": EYE, "pretrained": "a/b"}, {"config": LLAMA, "pretrained": "a/b"})
    before = json.dumps(wanted)
    meta_model(wanted)
    assert json.dumps(wanted) == before
