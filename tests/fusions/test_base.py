from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.cli import LightningCLI
from torch import Tensor, nn

from lit_vlm import VisionLanguageModel
from lit_vlm.encoders import TimmEncoder
from lit_vlm.fusions import (
    ChannelConcat,
    COMMFusion,
    ConcatLevels,
    Fusion,
    LLNLayerscale,
    MeanLevels,
    PickLevel,
    TokenConcat,
    WeightedLevels,
)
from lit_vlm.fusions.base import common_width
from lit_vlm.prompts import Plain

MakeModel = Callable[..., VisionLanguageModel]
MakeFusion = Callable[[Sequence[Sequence[int]]], Fusion]

COMM = {
    "scale": "free",
    "mlp_depth": 2,
    "mlp_ratio": 4.0,
    "mlp_encoders": [1],
    "residual": False,
}
MADE = {  # by case: how a fusion is made, its module and its record
    "channel_concat": (ChannelConcat, "channel_concat.ChannelConcat", {}),
    "comm": (COMMFusion, "comm.COMMFusion", COMM),
    "comm with all MLPs": (
        lambda dims: COMMFusion(dims, "softmax", 1, 2, (0, -1), residual=True),
        "comm.COMMFusion",
        {
            "scale": "softmax",
            "mlp_depth": 1,
            "mlp_ratio": 2,
            "mlp_encoders": [0, -1],
            "residual": True,
        },
    ),
    "concat": (ConcatLevels, "concat.ConcatLevels", {}),
    "lln_layerscale": (
        lambda dims: LLNLayerscale(dims, scale="softmax"),
        "lln_layerscale.LLNLayerscale",
        {"out_dim": None, "scale": "softmax"},
    ),
    "mean": (MeanLevels, "mean.MeanLevels", {}),
    "token_concat": (
        lambda dims: TokenConcat(dims, interleave=True, out_dim=6),
        "token_concat.TokenConcat",
        {"interleave": True, "out_dim": 6},
    ),
    "weighted": (WeightedLevels, "weighted.WeightedLevels", {}),
}
CASES = pytest.mark.parametrize(("make", "path", "arguments"), MADE.values(), ids=MADE)


class TwoInOne(TimmEncoder):
    """Layers of one network, as if each were of an encoder of its own."""

    @property
    def dims_by_encoder(self) -> tuple[tuple[int, ...], ...]:
        return tuple((dim,) for dim in self.dims)


class Difference(Fusion):
    """A user's fusion."""

    def __init__(self, in_dims: Sequence[Sequence[int]]) -> None:
        super().__init__(in_dims)
        self.out_dim = common_width(self, "Ask for others.")

    def num_tokens(self, num_patches: int) -> int:
        return num_patches

    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        return levels[0] - levels[1]


def seeing_model(tiny_model: MakeModel, fusion: MakeFusion) -> VisionLanguageModel:
    encoder = TwoInOne(
        "test_vit",
        layers=[1, -1],
        image_size=16,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        config={"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8},
    )
    language_model = tiny_model().language_model
    model = VisionLanguageModel(encoder, language_model, fusion=fusion, prompt=Plain())
    for parameter in model.fusion.parameters():  # initial values would hide what was not saved
        nn.init.normal_(parameter)
    return model


@CASES
def test_a_model_is_rebuilt_from_its_checkpoint(
    tiny_model: MakeModel, tmp_path: Path, make: MakeFusion, path: str, arguments: dict[str, Any]
) -> None:
    model = seeing_model(tiny_model, make)
    record = model.rebuild_config()["init_args"]["fusion"]
    assert record == {"class_path": f"lit_vlm.fusions.{path}", "init_args": arguments}

    trainer = Trainer(
        accelerator="cpu", logger=False, enable_model_summary=False, enable_progress_bar=False
    )
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = VisionLanguageModel.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert type(again.fusion) is type(model.fusion)
    assert again.rebuild_config() == model.rebuild_config()
    assert again.processor.tokens_per_image == model.processor.tokens_per_image
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.eval().see(images), model.eval().see(images))


@CASES
def test_gradients_reach_every_parameter_and_every_level(
    make: MakeFusion, path: str, arguments: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    of_each = 1 if make is ChannelConcat else 2  # the softmax of a single scale is always 1
    fusion = make([[8] * of_each] * 2)
    levels = tuple(torch.randn(2, 4, 8, requires_grad=True) for _ in fusion.level_dims)
    fusion(levels).square().sum().backward()
    reached = {name: parameter.grad for name, parameter in fusion.named_parameters()}
    reached |= {f"level {index}": level.grad for index, level in enumerate(levels)}
    idle = [name for name, grad in reached.items() if grad is None or grad.abs().max() < 1e-6]
    assert idle == []


def test_a_config_names_the_free_arguments_only(tiny_model: MakeModel) -> None:
    config = seeing_model(tiny_model, PickLevel).init_config
    free = {"mlp_encoders": [0, 1], "mlp_ratio": 2}
    config["init_args"]["fusion"] = {"class_path": "COMMFusion", "init_args": free}
    cli = LightningCLI(
        VisionLanguageModel,
        subclass_mode_model=True,
        run=False,
        args={"model": config, "trainer": {"logger": False}},
        save_config_callback=None,
        seed_everything_default=False,
    )
    fusion = cli.model.fusion
    assert isinstance(fusion, COMMFusion)
    assert fusion.in_dims == ((16,), (16,))
    assert cli.model.init_config["init_args"]["fusion"]["init_args"] == {**COMM, **free}


def test_splits_levels_by_encoder() -> None:
    levels = tuple(torch.zeros(1, 4, dim) for dim in (2, 3, 5))
    split = PickLevel([[2, 3], [5]]).by_encoder(levels)
    assert [[level.shape[-1] for level in own] for own in split] == [[2, 3], [5]]


def test_the_common_width_is_that_of_every_level() -> None:
    assert Difference([[8], [8, 8]]).out_dim == 8


def test_unequal_widths_are_named_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="Difference: levels .* got 8, 8, 12. Ask for others"):
        Difference([[8], [8, 12]])
