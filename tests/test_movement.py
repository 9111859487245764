from typing import Any

import torch
from torch import Tensor, nn

from lit_vlm.gradient_norms import gradient_norms
from lit_vlm.movement import Findings, MovementCheck


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)


def alone(flags: Tensor) -> Tensor:
    return flags


def step(model: Model, check: MovementCheck, optimizer: Any) -> None:
    model.zero_grad()
    model.head(model.body(torch.ones(2, 4))).square().sum().backward()
    check.see_step(optimizer, gradient_norms(dict(model.named_parameters())))
    optimizer.step()


def started(model: Model, rate: float = 0.1) -> tuple[MovementCheck, torch.optim.Optimizer]:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    return MovementCheck(model, [optimizer]), optimizer


def test_finds_nothing_where_all_moves_that_trains() -> None:
    model = Model()
    model.body.requires_grad_(False)
    check, optimizer = started(model)
    step(model, check, optimizer)
    assert check.findings(alone) == Findings()
    assert not check.findings(alone).failed


def test_what_has_thawed_or_was_frozen_since_is_not_judged() -> None:
    model = Model()
    model.body.requires_grad_(False)
    check, optimizer = started(model)
    model.body.requires_grad_(True)
    model.head.requires_grad_(False)
    step(model, check, optimizer)
    assert check.findings(alone) == Findings()


def test_a_part_that_says_it_moves_without_gradient_is_not_judged() -> None:
    model = Model()
    model.body.requires_grad_(False)
    model.body.moves_without_gradient = True  # type: ignore[assignment]
    check, optimizer = started(model)
    step(model, check, optimizer)
    with torch.no_grad():
        model.body.bias.add_(1)
    assert check.findings(alone) == Findings()


def test_names_what_moved_though_frozen_by_part() -> None:
    model = Model()
    model.body.requires_grad_(False)
    check, optimizer = started(model)
    step(model, check, optimizer)
    with torch.no_grad():
        model.body.bias.add_(1)
    assert check.findings(alone).moved_though_frozen == {"body": ["body.bias"]}


def test_what_another_rank_has_seen_counts() -> None:
    model = Model()
    model.body.requires_grad_(False)
    check, optimizer = started(model)

    def all_moved_elsewhere(flags: Tensor) -> Tensor:
        return torch.ones_like(flags)

    step(model, check, optimizer)
    found = check.findings(all_moved_elsewhere)
    assert found == Findings(moved_though_frozen={"body": ["body.weight", "body.bias"]})


def test_one_step_at_a_rate_of_zero_may_be_a_warm_up_and_two_are_none() -> None:
    model = Model()
    check, optimizer = started(model, rate=0.0)
    step(model, check, optimizer)
    assert check.findings(alone) == Findings()
    step(model, check, optimizer)
    assert check.findings(alone).rate_was_zero == {"body", "head"}


def test_a_weight_of_16_bits_that_stands_still_is_no_failure_if_its_part_moves() -> None:
    model = Model().to(torch.bfloat16)
    with torch.no_grad():
        model.head.weight.fill_(100.0)
        model.head.bias.zero_()
    check, optimizer = started(model, rate=1e-5)
    model.zero_grad()
    model.head(torch.ones(2, 4, dtype=torch.bfloat16)).sum().backward()
    for parameter in model.body.parameters():
        parameter.grad = torch.ones_like(parameter)
    check.see_step(optimizer, gradient_norms(dict(model.named_parameters())))
    optimizer.step()
    found = check.findings(alone)
    assert found.too_coarse["head"] == ["head.weight"]
    assert "head" not in found.not_moved


def test_a_model_without_weights_has_nothing_to_find() -> None:
    assert MovementCheck(nn.Dropout(), []).findings(alone) == Findings()
