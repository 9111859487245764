from typing import Any

import torch
from torch import nn

from lit_vlm.deepspeed_engine import leave_out_frozen


def test_an_optimizer_keeps_what_trains_in_groups_with_names() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.requires_grad_(False)
    first.bias.requires_grad_(False)
    groups: list[dict[str, Any]] = [
        {"params": first.parameters()},
        {"params": second.parameters(), "name": "frozen"},
    ]
    optimizer = torch.optim.AdamW(groups)
    leave_out_frozen([optimizer])
    [group] = optimizer.param_groups
    assert group["params"] == [first.weight]
    assert group["name"] == "group_0"
