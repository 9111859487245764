import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.testing import assert_close

from lit_vlm import VisionLanguageModel
from lit_vlm.connectors import (
    CrossAttentionResampler,
    LinearConnector,
    MLPConnector,
    SequentialConnector,
)

MakeModel = Callable[..., VisionLanguageModel]
DIM = 16
RESAMPLER: dict[str, Any] = {"num_queries": 4, "num_heads": 2}


def save(model: LightningModule, path: Path) -> Path:
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_model_summary=False, enable_progress_bar=False
    )
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (LinearConnector, {"norm": True}),
        (MLPConnector, {"depth": 3, "activation": "silu"}),
        (CrossAttentionResampler, RESAMPLER),
    ],
)
@pytest.mark.parametrize("within", ["a model", "another connector", "itself"])
def test_starts_from_the_connector_of_a_checkpoint(
    tiny_model: MakeModel, tmp_path: Path, kind: Any, arguments: dict[str, Any], within: str
) -> None:
    make = functools.partial(kind, **arguments)
    if within == "another connector":
        then = functools.partial(SequentialConnector, first=make, then=_Second, hidden_dim=DIM)
        model: Any = tiny_model(connector=then)
        trained = model.connector.first
    else:
        model = tiny_model(connector=make) if within == "a model" else make(DIM, DIM)
        trained = model.connector if within == "a model" else model
    for parameter in trained.parameters():
        nn.init.normal_(parameter)
    path = save(model, tmp_path / "model.ckpt")
    connector = make(DIM, DIM, pretrained=path)
    for name, value in trained.state_dict().items():
        assert torch.equal(connector.state_dict()[name], value), name
    assert connector.init_config["init_args"]["pretrained"] == str(path)
    assert connector.rebuild_config()["init_args"]["pretrained"] is None


class _Second(LinearConnector):
    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim, out_dim)


def test_starts_a_run_whose_checkpoints_do_without(tiny_model: MakeModel, tmp_path: Path) -> None:
    path = save(tiny_model(connector=MLPConnector), tmp_path / "first.ckpt")
    model = tiny_model(connector=functools.partial(MLPConnector, pretrained=path))
    later = save(model, tmp_path / "second.ckpt")
    path.unlink()
    again = VisionLanguageModel.load_from_checkpoint(later, weights_only=True)
    for name, value in model.connector.state_dict().items():
        assert torch.equal(again.connector.state_dict()[name], value)


def test_refuses_a_checkpoint_with_another_connector(tiny_model: MakeModel, tmp_path: Path) -> None:
    path = save(tiny_model(connector=MLPConnector), tmp_path / "model.ckpt")
    message = "LinearConnector: pretrained must be .* one LinearConnector, got .*, which holds MLPC"
    with pytest.raises(ValueError, match=message):
        LinearConnector(DIM, DIM, pretrained=path)


def test_refuses_a_checkpoint_with_several(tmp_path: Path) -> None:
    model = SequentialConnector(DIM, DIM, MLPConnector, MLPConnector)
    path = save(model, tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match="one MLPConnector, got .*, which holds 2 of them"):
        MLPConnector(DIM, DIM, pretrained=path)


def test_refuses_other_widths(tiny_model: MakeModel, tmp_path: Path) -> None:
    path = save(tiny_model(connector=MLPConnector), tmp_path / "model.ckpt")
    shapes = r"the shape \(16, 16\) for layers.0.weight in the place of the shape \(16, 8\)"
    with pytest.raises(ValueError, match=f"MLPConnector: .* got {shapes}. Give it the arguments"):
        MLPConnector(8, DIM, pretrained=path)


@pytest.mark.parametrize(
    ("kind", "there", "here", "message"),
    [
        (MLPConnector, {}, {"activation": "relu"}, "activation must be 'gelu', .* got 'relu'"),
        (LinearConnector, {"norm": True}, {}, "norm must be True, as in .*, got False"),
        (
            CrossAttentionResampler,
            RESAMPLER,
            {**RESAMPLER, "num_heads": 4},
            "num_heads must be 2, as in .*, got 4. Give the arguments of the checkpoint",
        ),
    ],
)
def test_refuses_other_arguments_even_where_the_shapes_are_the_same(
    tmp_path: Path, kind: Any, there: dict[str, Any], here: dict[str, Any], message: str
) -> None:
    path = save(kind(DIM, DIM, **there), tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match=f"{kind.__name__}: {message}"):
        kind(DIM, DIM, **here, pretrained=path)


def test_refuses_what_a_resampler_cannot_start_from(tmp_path: Path) -> None:
    message = "CrossAttentionResampler: pretrained must be a checkpoint .* got some/llava"
    with pytest.raises(ValueError, match=message):
        CrossAttentionResampler(DIM, DIM, **RESAMPLER, pretrained="some/llava")


def test_a_resampler_may_leave_out_the_last_matrix_of_the_checkpoints(tmp_path: Path) -> None:
    whole = CrossAttentionResampler(DIM, DIM, **RESAMPLER)
    path = save(whole, tmp_path / "model.ckpt")
    bare = CrossAttentionResampler(DIM, DIM, **RESAMPLER, project_out=False, pretrained=path)
    tokens = torch.randn(2, 9, DIM)
    assert_close(whole.project_out(bare(tokens)), whole(tokens))
    path = save(bare, tmp_path / "bare.ckpt")
    with pytest.raises(ValueError, match="project_out must be False, as in .*, got True"):
        CrossAttentionResampler(DIM, DIM, **RESAMPLER, pretrained=path)


def test_names_a_checkpoint_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="there is no checkpoint missing.ckpt"):
        MLPConnector(DIM, DIM, pretrained="missing.ckpt")
