from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, OneCycleLR, SequentialLR, StepLR

from lit_vlm.optimizer_groups import (
    check_coverage,
    refine_made,
    refining_groups,
    scale_rates,
    unscaled_rates,
)

Options = Mapping[str, Any]


def by_axes(weight: Tensor, group: Options, defaults: Options) -> dict[str, Any]:
    return {
        "name": f"{group.get('name', 'all')}.{weight.ndim}d",
        "lr_multiplier": 1.0 / weight.ndim,
    }


def by_size(weight: Tensor, group: Options, defaults: Options) -> dict[str, Any]:
    return {"large": weight.numel() > 3}


def model() -> Any:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 5))


def shapes(optimizer: Optimizer) -> list[list[tuple[int, ...]]]:
    return [[tuple(p.shape) for p in group["params"]] for group in optimizer.param_groups]


def test_groups_are_split_and_keep_their_options() -> None:
    first, second = model()
    groups = [{"params": first.parameters(), "lr": 0.5, "name": "first"}, {"params": second.weight}]
    with refining_groups(by_axes):
        optimizer = AdamW(groups, lr=0.1)
    assert shapes(optimizer) == [[(2, 2)], [(2,)], [(5, 2)]]
    rows = [(g["name"], g["lr"], g["lr_multiplier"]) for g in optimizer.param_groups]
    assert rows == [("first.2d", 0.5, 0.5), ("first.1d", 0.5, 1.0), ("all.2d", 0.1, 0.5)]


def test_a_scheduler_made_meanwhile_sees_all_groups() -> None:
    with refining_groups(by_axes):
        optimizer = SGD(model().parameters(), lr=0.1, momentum=0.9)
        scheduler = OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
    assert len(scheduler.get_last_lr()) == len(optimizer.param_groups) == 2


def test_two_splits_may_be_nested_and_names_stay_distinct() -> None:
    with refining_groups(by_size), refining_groups(by_axes):
        optimizer = SGD(model().parameters(), lr=0.1)
    assert shapes(optimizer) == [[(2, 2), (5, 2)], [(2,)], [(5,)]]
    rows = [(g["name"], g["large"], g["lr_multiplier"]) for g in optimizer.param_groups]
    assert rows == [("all.2d", True, 0.5), ("all.1d", False, 1.0), ("all.1d.2", True, 1.0)]


def test_what_comes_afterwards_or_after_an_error_is_not_split() -> None:
    add = Optimizer.add_param_group
    with pytest.raises(ValueError, match="empty parameter list"), refining_groups(by_axes):
        SGD([], lr=0.1)
    assert Optimizer.add_param_group is add
    assert len(SGD(model().parameters(), lr=0.1).param_groups) == 1


def test_names_that_torch_keeps_go_with_their_parameters() -> None:
    with refining_groups(by_axes):
        optimizer = SGD(model().named_parameters(), lr=0.1)
    names = [group["param_names"] for group in optimizer.param_groups]
    assert names == [["0.weight", "1.weight"], ["0.bias", "1.bias"]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({nn.Parameter(torch.zeros(1))}, "ordered collections"),
        (["weight"], "only optimize Tensors"),
    ],
    ids=["set", "word"],
)
def test_what_torch_refuses_is_left_to_torch(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message), refining_groups(by_axes):
        SGD([{"params": given}], lr=0.1)


def test_an_empty_group_stays() -> None:
    with refining_groups(by_axes):
        groups: Any = [{"params": []}, {"params": [nn.Parameter(torch.zeros(1))]}]
        optimizer = SGD(groups, lr=0.1)
    assert shapes(optimizer) == [[], [(1,)]]


@pytest.mark.parametrize("named", [False, True])
def test_an_optimizer_made_before_is_split_with_its_schedulers(named: bool) -> None:
    def made() -> tuple[Optimizer, list[Any]]:
        torch.manual_seed(0)
        whole = model()
        weights: Any = whole.named_parameters() if named else whole.parameters()
        optimizer = SGD(weights, lr=0.1, momentum=0.9)
        first, second = LinearLR(optimizer, 0.5), LambdaLR(optimizer, lambda step: 1 / (1 + step))
        both = SequentialLR(optimizer, [first, second], milestones=[2])
        return optimizer, [both, first, second]

    with refining_groups(by_axes):
        expected, others = made()
    optimizer, schedulers = made()
    refine_made(optimizer, schedulers, by_axes)
    assert shapes(optimizer) == shapes(expected)
    for _ in range(4):
        ours, theirs = (
            [{key: value for key, value in g.items() if key != "params"} for g in made.param_groups]
            for made in (optimizer, expected)
        )
        assert ours == theirs
        assert ("param_names" in ours[0]) == named
        for one, other in ((optimizer, schedulers), (expected, others)):
            one.step()
            other[0].step()


def test_refuses_a_scheduler_of_unknown_make_on_an_optimizer_made_before() -> None:
    optimizer = SGD(model().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="must be one of torch, got object. Make it in"):
        refine_made(optimizer, [object()], by_axes)
    with pytest.raises(ValueError, match="must be one of torch, got Own"):
        refine_made(optimizer, [Own(optimizer, 1)], by_axes)


class Own(StepLR):
    """A scheduler of another project."""


def test_a_rate_is_scaled_once_and_a_scheduler_sees_it_unscaled() -> None:
    with refining_groups(by_axes):
        optimizer = SGD(model().parameters(), lr=0.3)
    scale_rates(optimizer)
    scale_rates(optimizer)
    assert [g["lr"] for g in optimizer.param_groups] == [0.15, 0.3]
    with unscaled_rates(optimizer):
        assert [g["lr"] for g in optimizer.param_groups] == [0.3, 0.3]
        for group in optimizer.param_groups:
            group["lr"] = 0.2
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.2]
    assert [g["unscaled_lr"] for g in optimizer.param_groups] == [0.2, 0.2]


def test_refuses_a_rate_that_is_no_number() -> None:
    with refining_groups(by_axes):
        optimizer = AdamW(model().parameters(), lr=torch.tensor(0.1), foreach=False)
    with pytest.raises(ValueError, match=r"must be numbers, got Tensor for all.2d of AdamW"):
        scale_rates(optimizer)


def test_counts_what_is_in_no_group_or_in_two() -> None:
    whole = model()
    one = SGD(whole[0].parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"Me: each .* got '1.weight' in none. Mend .* Sequential"):
        check_coverage(whole, [one], "Me")
    whole[1].requires_grad_(False)
    check_coverage(whole, [one], "Me")
    with pytest.raises(ValueError, match=r"got '0.bias' in 2"):
        check_coverage(whole, [one, SGD([whole[0].bias], lr=0.1)], "Me")


def test_a_shared_tensor_counts_once() -> None:
    whole = model()
    whole.append(whole[0])
    check_coverage(whole, [SGD(whole.parameters(), lr=0.1)], "Me")
