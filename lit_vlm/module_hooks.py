"""Hooks of a LightningModule, with something put around them for one run."""

import functools
from collections.abc import Callable
from typing import Any

from lightning import LightningModule


class _Wrapped(functools.partial[Any]):
    """A hook with something around it: ``func`` is what runs, ``args`` the hook as it was."""


def wrap_hook(module: LightningModule, name: str, around: Callable[..., Any]) -> None:
    """Let ``around(original, *args)`` run in place of a module's hook, until ``unwrap_hook``.

    Args:
        module: any module, ours or another project's; no other object of its class changes.
        name: the hook, e.g. ``configure_optimizers``.
        around: is called with the hook as it was, and the hook's arguments.
    """
    module.__dict__[name] = _Wrapped(around, getattr(module, name))


def unwrap_hook(module: LightningModule, name: str, around: Callable[..., Any]) -> None:
    """Undo ``wrap_hook``, in whatever order several were put on; do nothing if it was not."""
    arounds = []
    hook: Any = module.__dict__.pop(name, None)
    while isinstance(hook, _Wrapped):
        arounds.append(hook.func)
        [hook] = hook.args
    if hook is not None and getattr(hook, "__func__", None) is not getattr(type(module), name, ()):
        module.__dict__[name] = hook  # it was an attribute of this object before
    for kept in reversed([a for a in arounds if a != around]):
        wrap_hook(module, name, kept)
