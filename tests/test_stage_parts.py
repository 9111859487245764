from typing import Any

import pytest
import torch
from lightning import LightningModule
from torch import nn

from lit_vlm.stage_parts import StageParts
from lit_vlm.stages import Stage


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Linear(2, 2)
        self.voice = nn.Linear(2, 2)
        self.side = 8

    @property
    def image_size(self) -> int:
        return self.side

    def set_image_size(self, side: int) -> None:
        if side % 8:
            raise ValueError(f"Model: must be a multiple of 8, got {side}.")
        self.side = side


def parts(**stages: Any) -> StageParts:
    return StageParts({name: Stage(**options) for name, options in stages.items()})


def trained(model: nn.Module) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_a_stage_is_applied_whatever_was_before() -> None:
    made = parts(one={"trains": ["eye"], "steps": 1}, two={"trains": ["voice.bias"]})
    model = Model()
    made.begin(model)
    for _ in range(2):
        made.apply(model, "one")
        assert trained(model) == {"eye.weight", "eye.bias"}
        made.apply(model, "two")
        assert (trained(model), made.applied) == ({"voice.bias"}, "two")


def test_knows_what_trains_in_any_stage() -> None:
    kept = {"trains": ["eye"], "keeps_frozen": ["eye.bias"], "steps": 1}
    made = parts(one=kept, two={"trains": ["voice.bias"]})
    assert made.trained_by_any(Model()) == {"eye.weight", "voice.bias"}


def test_a_stage_without_a_size_works_at_the_models_own() -> None:
    one = {"trains": ["eye"], "image_size": 32, "steps": 1}
    made, model = parts(one=one, two={"trains": ["eye"]}), Model()
    made.begin(model)
    made.apply(model, "one")
    assert model.image_size == 32
    made.apply(model, "two")
    assert model.image_size == 8


def test_warns_of_a_tensor_that_moves_where_nothing_trains() -> None:
    model = Model()
    model.voice.weight = model.eye.weight
    with pytest.warns(UserWarning, match="voice.weight moves in stage 'one' .* as eye.weight"):
        parts(one={"trains": ["eye"]}).warn(model)


def test_a_stage_in_which_nothing_trains_is_refused() -> None:
    model = Model()
    model.eye = nn.Identity()  # type: ignore[assignment]
    with pytest.raises(ValueError, match="got no parameter for stage 'one'"):
        parts(one={"trains": ["eye"]}).apply(model, "one")
    assert torch.is_grad_enabled()
