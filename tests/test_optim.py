import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lit_vlm.optim import parameter_groups, schedule_factor


def test_every_parameter_is_in_one_group_and_only_matrices_decay() -> None:
    parts = {
        "eye": nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4)),
        "voice": nn.Linear(4, 5),
        "nothing": nn.Identity(),
    }
    groups = parameter_groups(parts, weight_decay=0.1)
    grouped = [p for group in groups for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped})
    assert {id(p) for p in grouped} == {id(p) for m in parts.values() for p in m.parameters()}
    for group in groups:
        decay = 0.1 if group["name"].endswith(".matrices") else 0.0
        assert group["weight_decay"] == decay
        assert all((p.ndim >= 2) == (decay > 0) for p in group["params"])
    assert [group["name"] for group in groups] == [
        "eye.matrices",
        "eye.vectors",
        "voice.matrices",
        "voice.vectors",
    ]


def test_a_tensor_that_two_parts_share_stands_with_the_first() -> None:
    one, other = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    other.weight = one.weight
    [group] = parameter_groups({"one": one, "other": other}, weight_decay=0.1)
    assert group["part"] == "one"


def test_frozen_parameters_keep_their_place() -> None:
    layer = nn.Linear(2, 2).requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups({"a": layer}, 0.1)) == 2


@pytest.mark.parametrize("warmup", [10, 0.1])
def test_warm_up_may_be_steps_or_a_share(warmup: float) -> None:
    factors = [schedule_factor(step, 100, warmup, "linear") for step in range(11)]
    assert_close(factors, [*[(k + 1) / 10 for k in range(10)], 1.0])


def test_cosine_equals_the_scheduler_of_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.2)
    for step in range(41):
        ours = schedule_factor(step, 40, 0, "cosine", floor=0.2)
        assert ours == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


def test_stays_at_the_floor_behind_the_end() -> None:
    assert schedule_factor(200, 100, 0, "cosine", floor=0.1) == pytest.approx(0.1)
    assert schedule_factor(200, 100, 0, "linear") == 0.0
    assert schedule_factor(200, 100, 5, "constant") == 1.0
