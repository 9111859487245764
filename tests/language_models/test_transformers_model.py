"""Adapters and new tokens inside a whole model: what trains, what is saved, what merging keeps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch.testing import assert_close

from lit_vlm import VisionLanguageModel
from lit_vlm.callbacks import Freeze
from lit_vlm.connectors import LinearConnector
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.encoders import TimmEncoder
from lit_vlm.language_models import CausalLanguageModel, Seq2SeqLanguageModel
from lit_vlm.prompts import VisualChat

HALF = (0.5, 0.5, 0.5)
SIZES: dict[str, dict[str, Any]] = {
    "llama": {
        "model_type": "llama",
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "t5": {
        "model_type": "t5",
        "vocab_size": 300,
        "d_model": 32,
        "d_ff": 48,
        "d_kv": 16,
        "num_layers": 2,
        "num_heads": 2,
    },
}
EACH = pytest.mark.parametrize("kind", SIZES)


def make(kind: str) -> VisionLanguageModel:
    torch.manual_seed(0)
    of = CausalLanguageModel if kind == "llama" else Seq2SeqLanguageModel
    return VisionLanguageModel(
        TimmEncoder("test_resnet", layers=[3], image_size=32, mean=HALF, std=HALF),
        of(config=SIZES[kind], lora={"r": 2, "lora_alpha": 8}),
        LinearConnector,
        prompt=VisualChat(system="", markers="tokens"),
        learning_rate=0.02,
        warmup=0,
        max_new_tokens=4,
    )


def data(path: Path) -> ConversationDataModule:
    source = JSONConversations(path)
    return ConversationDataModule(train=source, test=source, batch_size=4, probes=[])


def trained(kind: str, path: Path, folder: Path, parts: list[str]) -> tuple[Any, Trainer]:
    model = make(kind)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=4,
        callbacks=[Freeze(parts)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(model, data(path))
    return model, trainer


@pytest.fixture
def path(color_questions: Callable[..., Path]) -> Path:
    return color_questions([True, True, True, True])


def a_batch(model: VisionLanguageModel, path: Path) -> Any:
    module = data(path)
    module.processor = model.processor
    module.setup("test")
    return next(iter(module.test_dataloader()[0]))


@EACH
def test_adapters_new_tokens_and_connector_train_and_the_base_stays(
    kind: str, path: Path, tmp_path: Path
) -> None:
    before = make(kind).state_dict()
    model, _ = trained(kind, path, tmp_path, ["encoder"])
    moved = {
        name
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name]) and "lora_" not in name
    }
    assert moved == {
        "connector.linear.weight",
        "connector.linear.bias",
        "language_model.new_tokens.read",
        "language_model.new_tokens.written",
    }
    adapters = {name for name in before if "lora_B" in name}
    assert adapters
    assert all(model.state_dict()[name].any() for name in adapters), "they start at zero"


@EACH
def test_a_frozen_language_model_keeps_its_new_tokens_training(
    kind: str, path: Path, tmp_path: Path
) -> None:
    model, _ = trained(kind, path, tmp_path, ["encoder", "language_model"])
    training = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert training == {
        "connector.linear.weight",
        "connector.linear.bias",
        "language_model.new_tokens.read",
        "language_model.new_tokens.written",
    }


@EACH
def test_one_checkpoint_holds_all_of_it(kind: str, path: Path, tmp_path: Path) -> None:
    model, trainer = trained(kind, path, tmp_path, ["encoder"])
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = VisionLanguageModel.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    batch = a_batch(model, path)
    with torch.no_grad():
        expected, got = (m.eval()(batch) for m in (model, again))
    assert_close(got.total, expected.total, atol=0, rtol=0)
    assert again.generate(batch) == model.generate(batch)
    training = {name for name, weight in again.named_parameters() if weight.requires_grad}
    assert any("lora_" in name for name in training)
    assert not any("embed" in name for name in training)


@EACH
def test_merging_keeps_what_the_model_computes(kind: str, path: Path, tmp_path: Path) -> None:
    model, trainer = trained(kind, path, tmp_path, ["encoder"])
    batch = a_batch(model, path)
    with torch.no_grad():
        before = model.eval()(batch).total
        model.language_model.merge()
        after = model(batch).total
    assert_close(after, before, atol=1e-5, rtol=1e-5)
    assert not any("lora_" in name for name in model.state_dict())
    trainer.save_checkpoint(tmp_path / "merged.ckpt")
    again = VisionLanguageModel.load_from_checkpoint(tmp_path / "merged.ckpt", weights_only=True)
    with torch.no_grad():
        assert_close(again.eval()(batch).total, after, atol=0, rtol=0)
