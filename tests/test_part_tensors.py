import torch
from torch import nn

from lit_vlm.part_tensors import (
    frozen_buffers,
    modules_by_part,
    moved_by_itself,
    parameters_by_part,
)


class Tower(nn.Module):
    """A model of somebody else's, with a parameter of its own and a shared one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(2, 2), nn.BatchNorm1d(2), nn.BatchNorm1d(2, affine=False)
        )
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight = self.body[0].weight  # type: ignore[assignment]
        self.logit_scale = nn.Parameter(torch.zeros(()))


class Named(Tower):
    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"head": self.head}


def test_the_parts_of_a_stranger_are_its_children_and_its_own_parameters() -> None:
    model = Tower()
    assert list(modules_by_part(model)) == ["body", "head"]
    found = parameters_by_part(model)
    assert {part: len(own) for part, own in found.items()} == {
        "body": 4,
        "head": 0,
        "logit_scale": 1,
    }
    assert found["logit_scale"] == {"logit_scale": model.logit_scale}


def test_parts_that_are_named_come_first_and_leave_the_rest_to_the_children() -> None:
    found = parameters_by_part(Named())
    # The shared weight goes by its first name in the model, and stands with the part named.
    assert list(found["head"]) == ["body.0.weight"]
    assert list(found["body"]) == ["body.0.bias", "body.1.weight", "body.1.bias"]
    assert list(found) == ["head", "logit_scale", "body"]


def test_parts_of_another_kind_are_children_like_any() -> None:
    model = nn.Module()
    model.parts = nn.ModuleDict({"eye": nn.Linear(1, 1)})
    assert list(parameters_by_part(model)) == ["parts"]


def test_statistics_are_frozen_with_the_module_that_has_them() -> None:
    model = Tower()
    assert not dict(frozen_buffers(model))
    model.body[1].requires_grad_(False)
    names = ["running_mean", "running_var", "num_batches_tracked"]
    assert list(dict(frozen_buffers(model))) == [f"body.1.{name}" for name in names]


def test_statistics_without_weights_are_frozen_with_what_is_around_them() -> None:
    model = Tower()
    model.body.requires_grad_(False)
    assert "body.2.running_mean" in dict(frozen_buffers(model))


def test_buffers_that_no_checkpoint_holds_may_change() -> None:
    model = Tower()
    model.body.requires_grad_(False)
    model.body[0].register_buffer("cache", torch.zeros(1), persistent=False)
    assert "body.0.cache" not in dict(frozen_buffers(model))


def test_finds_what_moves_without_a_gradient_and_says_so() -> None:
    model = nn.ModuleDict({"teacher": nn.ModuleDict({"a": nn.Linear(2, 2)}), "b": nn.Linear(2, 2)})
    names = [name for name, _ in model.named_parameters()]
    assert moved_by_itself(model, names) == []
    model["teacher"].moves_without_gradient = True  # type: ignore[assignment]
    assert moved_by_itself(model, names) == ["teacher.a.weight", "teacher.a.bias"]
