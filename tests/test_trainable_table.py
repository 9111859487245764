from typing import Any

import torch
from torch import nn

from lit_vlm.trainable_table import trainable_rows


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(2, 3)
        self.head = nn.Linear(2, 3, bias=False).to(torch.bfloat16)
        self.tied = nn.Linear(2, 3, bias=False)
        self.tied.weight = self.body.weight
        self.logit_scale = nn.Parameter(torch.zeros(()))


def rows(model: nn.Module, groups: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return trainable_rows(model, groups, lambda group: float(group["lr"]))


def test_counts_shared_parameters_where_they_stand_first_and_the_models_own_apart() -> None:
    model = Tower()
    model.head.requires_grad_(False)
    groups = [{"params": list(model.parameters()), "lr": 0.1, "weight_decay": 0.2}]
    assert rows(model, groups) == [
        ("body", "Linear", "9", "9", "float32", "0.1", "0.2"),
        ("head", "Linear", "6", "0", "bfloat16", "-", "-"),
        ("tied", "Linear", "0", "0", "-", "-", "-"),
        ("logit_scale", "Parameter", "1", "1", "float32", "0.1", "0.2"),
    ]


def test_gives_a_range_of_rates_where_a_part_has_several() -> None:
    model = Tower()
    weight, bias = model.body.weight, model.body.bias
    groups = [{"params": [weight], "lr": 1e-3}, {"params": [bias], "lr": 1e-5}]
    assert rows(model, groups)[0][5:] == ("1e-05 … 0.001", "0")


def test_says_nothing_of_the_rate_of_what_no_optimizer_has() -> None:
    assert rows(Tower(), [])[0][3:] == ("9", "float32", "-", "-")
