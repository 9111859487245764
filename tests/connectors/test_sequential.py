import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.cli import LightningCLI
from torch import nn

from lit_vlm import VisionLanguageModel
from lit_vlm.connectors import (
    CrossAttentionResampler,
    LinearConnector,
    MLPConnector,
    PoolingConnector,
    SequentialConnector,
)
from lit_vlm.freezing import train_only
from lit_vlm.part_names import find_parts
from lit_vlm.testing import check_connector

MakeModel = Callable[..., VisionLanguageModel]
RESAMPLER = functools.partial(CrossAttentionResampler, num_queries=4, num_heads=2)


def visual_chat(in_dim: int, out_dim: int, hidden_dim: int | None = 8) -> SequentialConnector:
    then = functools.partial(LinearConnector, norm=True)
    return SequentialConnector(in_dim, out_dim, RESAMPLER, then, hidden_dim)


def test_contract() -> None:
    check_connector(visual_chat(in_dim=6, out_dim=12), num_patches=9)


@pytest.mark.parametrize("hidden_dim", [8, None])
def test_runs_both_one_behind_the_other(hidden_dim: int | None) -> None:
    connector = visual_chat(6, 12, hidden_dim)
    first, then = connector.first, connector.then
    assert (first.in_dim, first.out_dim) == (6, hidden_dim or 12)
    assert (then.in_dim, then.out_dim) == (hidden_dim or 12, 12)
    tokens = torch.randn(2, 9, 6)
    assert torch.equal(connector(tokens), then(first(tokens)))


def test_tokens_are_those_that_the_second_makes_of_those_of_the_first() -> None:
    pooling = functools.partial(PoolingConnector, stride=3)
    connector = SequentialConnector(6, 12, pooling, PoolingConnector, hidden_dim=8)
    assert connector.num_tokens(18 * 18) == 9
    with pytest.raises(ValueError, match="PoolingConnector: .* a multiple of 2, got 9 tokens"):
        connector.num_tokens(9 * 9)


def test_one_may_stand_in_another() -> None:
    inner = functools.partial(SequentialConnector, first=RESAMPLER, then=MLPConnector, hidden_dim=8)
    connector = SequentialConnector(6, 12, inner, LinearConnector, hidden_dim=16)
    check_connector(connector, num_patches=9)
    first = connector.init_config["init_args"]["first"]
    assert first["class_path"] == "lit_vlm.connectors.sequential.SequentialConnector"
    assert first["init_args"]["hidden_dim"] == 8
    assert first["init_args"]["first"]["init_args"]["num_queries"] == 4


@pytest.mark.parametrize("hidden_dim", [0, -3])
def test_refuses_no_width(hidden_dim: int) -> None:
    message = f"SequentialConnector: hidden_dim must be at least 1, got {hidden_dim}. Leave it out"
    with pytest.raises(ValueError, match=message):
        visual_chat(6, 12, hidden_dim)


def test_the_first_freezes_by_its_name(tiny_model: MakeModel) -> None:
    model = tiny_model(connector=visual_chat)
    first: Any = model.connector.first
    then: Any = model.connector.then
    train_only(model, find_parts(model, ["connector.then"], "test: parts"))
    assert all(not parameter.requires_grad for parameter in first.parameters())
    assert all(parameter.requires_grad for parameter in then.parameters())
    model.train()
    assert (first.training, then.training) == (False, True)
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    torch.autograd.backward(model.see(images).square().sum())
    trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert trained == {f"connector.then.{p}" for p, _ in then.named_parameters()}


def test_a_config_nests_it_and_a_checkpoint_rebuilds_it(
    tiny_model: MakeModel, tmp_path: Path
) -> None:
    config = tiny_model().init_config
    config["init_args"]["connector"] = {
        "class_path": "SequentialConnector",
        "init_args": {
            "first": {
                "class_path": "CrossAttentionResampler",
                "init_args": {"num_queries": 1, "num_heads": 2},
            },
            "then": {"class_path": "LinearConnector", "init_args": {"norm": True}},
            "hidden_dim": 8,
        },
    }
    cli = LightningCLI(
        VisionLanguageModel,
        subclass_mode_model=True,
        run=False,
        args={"model": config, "trainer": {"logger": False, "accelerator": "cpu"}},
        save_config_callback=None,
        seed_everything_default=False,
    )
    model: Any = cli.model
    for parameter in model.connector.parameters():  # initial values would hide what was not saved
        nn.init.normal_(parameter)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_model_summary=False, enable_progress_bar=False
    )
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = VisionLanguageModel.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert isinstance(again.connector, SequentialConnector)
    assert isinstance(again.connector.first, CrossAttentionResampler)
    assert again.rebuild_config() == model.rebuild_config()
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.eval().see(images), model.eval().see(images))
