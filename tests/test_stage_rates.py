from typing import Any

import pytest
import torch
from torch import nn

from lit_vlm.stage_rates import StageRates
from lit_vlm.stages import Position, Stage


def optimizer(rates: StageRates, module: nn.Module) -> torch.optim.Optimizer:
    with rates.splitting(module):
        groups = [
            {"params": [p], "lr": rate, "name": name}
            for (name, p), rate in zip(module.named_parameters(), (0.1, 0.2), strict=True)
        ]
        made = torch.optim.SGD(groups, lr=1.0)
    rates.remember([made])
    return made


def active(**stages: Any) -> StageRates:
    rates = StageRates({name: Stage(trains=["*"], **kw) for name, kw in stages.items()})
    rates._active = True
    return rates


def test_a_groups_own_rate_holds_where_a_stage_says_none() -> None:
    rates = active(one={"steps": 1, "learning_rates": {"bias": 0.7}}, two={"learning_rate": 0.5})
    weight, bias = optimizer(rates, nn.Linear(2, 2)).param_groups
    assert [rates.peak(group, "one") for group in (weight, bias)] == [0.1, 0.7]
    assert [rates.peak(group, "two") for group in (weight, bias)] == [0.5, 0.5]
    weight["lr"] = 0.003  # of the moment, as in a resumed run
    assert rates.peak(weight, "one") == 0.1


def test_multipliers_count_but_for_rates_by_name() -> None:
    rates = active(one={"learning_rate": 0.5, "learning_rates": {"bias": 0.7}})
    weight, bias = optimizer(rates, nn.Linear(2, 2)).param_groups
    weight["lr_multiplier"] = bias["lr_multiplier"] = 0.1
    assert [rates.peak(group, "one") for group in (weight, bias)] == [0.05, 0.7]


def test_groups_are_split_only_where_stages_tell_them_apart() -> None:
    module = nn.Linear(2, 2)
    for stages, count in (({"one": {}}, 1), ({"one": {"learning_rates": {"bias": 0.7}}}, 2)):
        rates = active(**stages)
        with rates.splitting(module):
            made = torch.optim.SGD(module.parameters(), lr=0.1)
        assert len(made.param_groups) == count
        assert len({group.get("name") for group in made.param_groups}) == count


def test_a_schedule_needs_an_end() -> None:
    rates = active(one={"schedule": "linear"})
    assert rates._factor(Position(0, "one", 10, 4), 12) == 0.5
    with pytest.raises(ValueError, match="'linear' must know where stage 'one' ends"):
        rates._factor(Position(0, "one", 10, None), 12)
