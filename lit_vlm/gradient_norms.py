"""How large gradients are, whole ones and sharded ones."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def gradient_norms(parameters: Mapping[str, nn.Parameter]) -> dict[str, float]:
    """Return the Euclidean norm of each gradient there is.

    Gradients that FSDP2 has sharded count whole: every rank must call it, and gets the same.

    Args:
        parameters: parameters by name; those without a gradient are left out of the result.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> gradient_norms({"weight": weight, "idle": nn.Parameter(torch.zeros(2))})
        {'weight': 5.0}
    """
    alike: dict[Any, dict[str, Tensor]] = {}
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            alike.setdefault(_layout(parameter.grad), {})[name] = parameter.grad
    found: dict[str, float] = {}
    for gradients in alike.values():
        squares = _local_norms(list(gradients.values())).square()
        norms = _sum_over_shards(squares, next(iter(gradients.values()))).sqrt()
        found |= dict(zip(gradients, norms.tolist(), strict=True))
    return {name: found[name] for name in parameters if name in found}


def norms_by_part(
    parts: Mapping[str, Mapping[str, nn.Parameter]],
    norms: Mapping[str, float],
    optimizer: Optimizer,
) -> dict[str, float]:
    """Return the norm of each part's gradient, of what an optimizer trains; 0 if it has none.

    Args:
        parts: parameters by name, by part.
        norms: of single gradients, by the parameters' names.
        optimizer: parts that it does not train are left out of the result.
    """
    ids = {id(p) for group in optimizer.param_groups for p in group["params"]}
    trained = {
        part: [norms.get(name, 0.0) for name, p in own.items() if id(p) in ids]
        for part, own in parts.items()
    }
    return {part: float(torch.tensor(mine).norm()) for part, mine in trained.items() if mine}


def _layout(gradient: Tensor) -> Any:
    # What has one layout is read from the device, and summed over ranks, in one go.
    sharded = tuple(not place.is_replicate() for place in getattr(gradient, "placements", ()))
    return gradient.device, getattr(gradient, "device_mesh", None), sharded


def _local_norms(gradients: list[Any]) -> Tensor:
    local = [g.to_local() if hasattr(g, "to_local") else g for g in gradients]
    dense = [g.coalesce().values() if g.is_sparse else g for g in local]
    return torch.stack([norm.float() for norm in torch._foreach_norm(dense)])


def _sum_over_shards(squares: Tensor, example: Any) -> Tensor:
    if not hasattr(example, "placements"):
        return squares
    from torch.distributed.tensor import DTensor, Partial, Replicate

    kinds = [Replicate() if place.is_replicate() else Partial() for place in example.placements]
    return DTensor.from_local(squares, example.device_mesh, kinds).full_tensor()
