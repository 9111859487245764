"""Freezing that means it: no gradient, evaluation mode for good."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
    # An instance attribute hides the class's method, also from a parent's train().
    module.train = functools.partial(_stay_in_evaluation, module)  # type: ignore[method-assign]
    module.eval()


def unfreeze(module: nn.Module) -> None:
    """Undo ``freeze``: gradients on, training mode, ``train()`` as the class defines it.

    A module inside that names what ``only_trains`` of it (a model with adapters) trains no more.
    """
    module.__dict__.pop("train", None)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    for inner in module.modules():
        only = getattr(inner, "only_trains", None)
        if only is not None:
            for name, parameter in inner.named_parameters():
                parameter.requires_grad_(name in only)
    module.train()


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


def _trains_when_frozen(module: nn.Module) -> bool:
    return bool(getattr(module, "trains_when_frozen", False))


def _stay_in_evaluation(module: nn.Module, mode: bool = True) -> nn.Module:
    return type(module).train(module, False)
