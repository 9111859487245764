"""Freezing that means it: no gradient, evaluation mode for good."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from lit_vlm.part_names import is_within


def freeze(module: nn.Module) -> None:
    """Freeze a module: gradients off and dropped, evaluation mode that survives ``train()``.

    Evaluation mode matters as much as the gradients: a frozen BatchNorm in training mode keeps
    moving its statistics. Freeze before the trainer wraps the model (DDP, FSDP). A module inside
    that has ``trains_when_frozen`` set (embeddings of new tokens) is frozen by its own name only.
    """
    exempt = [m for m in module.modules() if m is not module and _trains_when_frozen(m)]
    kept = {parameter for inner in exempt for parameter in inner.parameters()}
    for parameter in module.parameters():
        if parameter not in kept:
            parameter.requires_grad_(False)
            parameter.grad = None
    _stay_evaluating(module)


def unfreeze(module: nn.Module) -> None:
    """Undo ``freeze``: gradients on, training mode, ``train()`` as the class defines it.

    A module inside that names what ``only_trains`` of it (a model with adapters) trains no more.
    """
    _may_train(module)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    for parameter in _kept_by_adapters(module):
        parameter.requires_grad_(False)


def train_only(root: nn.Module, trained: Sequence[str], kept: Sequence[str] = ()) -> None:
    """Train some modules and parameters of a model, and freeze all else of it.

    What ``freeze`` leaves (``trains_when_frozen``) trains still, and what ``unfreeze`` leaves
    (``only_trains``) does not. A tensor that several modules share trains if one of them does. A
    module that trains in part is in training mode, those inside it that do not train are not.

    Args:
        root: the model, which may be changed in this way any number of times.
        trained: names of modules and parameters of it, from ``find_parts``.
        kept: names inside of them that do not train.
    """
    exempt = [name for name, module in root.named_modules() if name and _trains_when_frozen(module)]
    named = list(root.named_parameters(remove_duplicate=False))
    wanted = {id(p) for name, p in named if is_within(name, [*trained, *exempt])}
    kept_ids = {id(p) for name, p in named if is_within(name, kept)}
    kept_ids |= {id(p) for p in _kept_by_adapters(root)}
    trained_ids = wanted - kept_ids
    for parameter in root.parameters():
        can = parameter.is_floating_point() or parameter.is_complex()
        on = can and id(parameter) in trained_ids
        parameter.requires_grad_(on)
        if not on:
            parameter.grad = None
    _set_modes(root, "", trained, kept)
    root.train()  # a module may keep parts of itself in evaluation mode by a train() of its own


def is_frozen(module: nn.Module) -> bool:
    """Whether ``freeze`` was called on this very module and not undone."""
    return "train" in module.__dict__


def trains(module: nn.Module) -> bool:
    """Whether any parameter of the module receives a gradient."""
    return any(parameter.requires_grad for parameter in module.parameters())


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode for a while; each comes back to the mode it had."""
    modes = {child: child.training for module in modules for child in module.modules()}
    for child in modes:
        child.training = False
    try:
        yield
    finally:
        for child, mode in modes.items():
            child.training = mode


def _set_modes(module: nn.Module, name: str, trained: Sequence[str], kept: Sequence[str]) -> None:
    if name and is_within(name, kept):
        _stay_evaluating(module)
        return
    whole = is_within(name, trained)
    if whole and not any(is_within(inner, [name]) for inner in kept):
        _may_train(module)
    elif not whole and name and not any(is_within(inner, [name]) for inner in trained):
        _stay_evaluating(module)
    else:
        module.__dict__.pop("train", None)
        module.training = True
        for child_name, child in module.named_children():
            inner = f"{name}.{child_name}" if name else child_name
            if not name and not any(True for _ in child.parameters()):
                _may_train(child)  # dropout or a metric beside the parts is nobody's
            else:
                _set_modes(child, inner, trained, kept)


def _may_train(module: nn.Module) -> None:
    for inner in module.modules():
        inner.__dict__.pop("train", None)
    module.train()


def _stay_evaluating(module: nn.Module) -> None:
    # An instance attribute hides the class's method, also from a parent's train().
    module.train = functools.partial(_stay_in_evaluation, module)  # type: ignore[method-assign]
    module.eval()


def _stay_in_evaluation(module: nn.Module, mode: bool = True) -> nn.Module:
    return type(module).train(module, False)


def _trains_when_frozen(module: nn.Module) -> bool:
    return bool(getattr(module, "trains_when_frozen", False))


def _kept_by_adapters(root: nn.Module) -> list[nn.Parameter]:
    return [
        parameter
        for module in root.modules()
        if (only := getattr(module, "only_trains", None)) is not None
        for name, parameter in module.named_parameters()
        if name not in only
    ]
