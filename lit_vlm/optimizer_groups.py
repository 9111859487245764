"""Parameter groups that are told apart further than the module does that makes the optimizer."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

# What torch's schedulers keep of each group, outside of the group.
_PER_GROUP = {
    *("base_lrs", "_last_lr", "lr_lambdas", "min_lrs", "max_lrs"),
    *("base_momentums", "max_momentums"),
}

Refine = Callable[[Tensor, Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


@contextmanager
def refining_groups(refine: Refine) -> Iterator[None]:
    """Split every parameter group that any optimizer is given meanwhile.

    It is done as the group is added, so a scheduler made afterwards sees the groups there are. It
    may be nested: the inner one splits first, the outer one what is left of it.

    Args:
        refine: is called with a parameter, the options of its group, and the optimizer's defaults;
            returns options for the parameter. Parameters of a group that have the same options
            stay together; other options of the group are kept. Names are made distinct.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 2)
        >>> with refining_groups(lambda weight, group, defaults: {"name": f"{weight.ndim}d"}):
        ...     optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        >>> [group["name"] for group in optimizer.param_groups]
        ['2d', '1d']
    """
    add = Optimizer.add_param_group

    def add_refined(optimizer: Optimizer, param_group: dict[str, Any]) -> None:
        for group in split_group(param_group, optimizer.defaults, refine):
            _make_distinct(group, optimizer.param_groups)
            add(optimizer, group)

    Optimizer.add_param_group = add_refined  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Optimizer.add_param_group = add  # type: ignore[method-assign]


def refine_made(optimizer: Optimizer, schedulers: Iterable[Any], refine: Refine) -> None:
    """Split the groups of an optimizer that was made before, and what its schedulers keep of them.

    Args:
        optimizer: the optimizer; its state is left alone.
        schedulers: torch's schedulers on it, with those inside of them.
        refine: see ``refining_groups``.

    Raises:
        ValueError: if a scheduler is not torch's, whose lists cannot be known.
    """
    groups: list[dict[str, Any]] = []
    origins: list[int] = []
    for place, old in enumerate(optimizer.param_groups):
        named = list(zip(old.pop("param_names", ()), old["params"], strict=False))
        whole = {**old, "params": named or old["params"]}
        for group in split_group(whole, optimizer.defaults, refine):
            _make_distinct(group, groups)
            if named:
                names, tensors = zip(*group["params"], strict=True)
                group.update(params=list(tensors), param_names=list(names))
            groups.append(group)
            origins.append(place)
    optimizer.param_groups[:] = groups
    for scheduler in schedulers:
        if not type(scheduler).__module__.startswith("torch."):
            raise ValueError(
                f"PretrainedLR: a scheduler made before configure_optimizers must be one of "
                f"torch, got {type(scheduler).__name__}. Make it in configure_optimizers."
            )
        for key in _PER_GROUP & vars(scheduler).keys():
            values = getattr(scheduler, key)
            if isinstance(values, (list, tuple)):
                setattr(scheduler, key, [values[place] for place in origins])


def scale_rates(optimizer: Optimizer) -> None:
    """Multiply the learning rates by the groups' ``lr_multiplier``; ``unscaled_lr`` keeps them.

    Raises:
        ValueError: if a learning rate is no number.
    """
    for group in optimizer.param_groups:
        if "lr_multiplier" not in group:
            continue
        rate = group.setdefault("unscaled_lr", group["lr"])
        if not isinstance(rate, (int, float)):
            raise ValueError(
                f"PretrainedLR: learning rates must be numbers, got {type(rate).__name__} for "
                f"{group.get('name', 'a group')} of {type(optimizer).__name__}. Give lr as a float."
            )
        group["lr"] = rate * group["lr_multiplier"]


@contextmanager
def unscaled_rates(optimizer: Optimizer) -> Iterator[None]:
    """Let a scheduler see and change the learning rates as they are without multipliers."""
    groups = [group for group in optimizer.param_groups if "unscaled_lr" in group]
    for group in groups:
        group["lr"] = group["unscaled_lr"]
    yield
    for group in groups:
        group["unscaled_lr"] = group["lr"]
    scale_rates(optimizer)


def check_coverage(module: nn.Module, optimizers: Iterable[Optimizer], asked_by: str) -> None:
    """Check that each parameter that trains is in exactly one group; shared ones count once.

    Raises:
        ValueError: if one is in none or in two.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    held = [id(parameter) for group in groups for parameter in group["params"]]
    counts = {key: held.count(key) for key in set(held)} if len(set(held)) < len(held) else {}
    seen = set(held)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and id(parameter) not in seen:
            found = "none"
        elif counts.get(id(parameter), 1) > 1:
            found = str(counts[id(parameter)])
        else:
            continue
        raise ValueError(
            f"{asked_by}: each parameter that trains must be in one parameter group of the "
            f"optimizers, got {name!r} in {found}. Mend configure_optimizers of "
            f"{type(module).__name__}, or freeze it."
        )


def split_group(
    group: dict[str, Any], defaults: Mapping[str, Any], refine: Refine
) -> list[dict[str, Any]]:
    """Return the groups that a group becomes; see ``refining_groups``."""
    given = group["params"]
    # What torch refuses is left to torch.
    entries: list[Any] = [given] if isinstance(given, (Tensor, set)) else list(given)
    tensors = [entry[1] if isinstance(entry, tuple) else entry for entry in entries]
    options = {key: value for key, value in group.items() if key != "params"}
    if not all(isinstance(tensor, Tensor) for tensor in tensors) or not tensors:
        return [{**options, "params": given if isinstance(given, set) else entries}]
    split: list[tuple[dict[str, Any], list[Any]]] = []
    for entry, tensor in zip(entries, tensors, strict=True):
        settings = refine(tensor, options, defaults)
        for known, members in split:
            if known == settings:
                members.append(entry)
                break
        else:
            split.append((settings, [entry]))
    return [{**options, "params": members, **settings} for settings, members in split]


def _make_distinct(group: dict[str, Any], others: Iterable[Mapping[str, Any]]) -> None:
    if "name" not in group:
        return
    taken = {other.get("name") for other in others}
    number, name = 1, group["name"]
    while group["name"] in taken:
        number += 1
        group["name"] = f"{name}.{number}"
