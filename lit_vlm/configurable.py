"""Objects that remember how they were made, as plain config."""

import collections.abc
import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, get_args, get_origin


class Configurable:
    """Record the constructor's arguments as ``class_path`` and ``init_args``.

    The record is the same whether an object was made in Python or from YAML, and holds only what
    YAML can: numbers, strings, lists, dictionaries and further records. Checkpoints are rebuilt
    from it, so an argument that it cannot express is refused when the object is made.

    An argument typed as a callable, such as ``connector: Callable[[int, int], Connector]``, must
    be kept, built, under the same name (``self.connector``): its record is the built object's,
    without the leading arguments that the caller derived.

    Raises:
        TypeError: if an argument is neither plain nor itself configurable.
    """

    _init_values: dict[str, Any]
    _made_as: type

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    @property
    def init_config(self) -> dict[str, Any]:
        """The constructor call: ``{"class_path": ..., "init_args": {...}}``."""
        return self._describe(lambda part: part.init_config)

    def rebuild_config(self) -> dict[str, Any]:
        """Return the constructor call that rebuilds the object without files or a network.

        Parts that load pretrained weights override it to name their architecture instead, since
        the weights themselves come from the checkpoint.
        """
        return self._describe(lambda part: part.rebuild_config())

    def _describe(self, of: "Callable[[Configurable], dict[str, Any]]") -> dict[str, Any]:
        arguments = {}
        for name, value in getattr(self, "_init_values", {}).items():
            if isinstance(value, _Derived):
                record = of(getattr(self, name))
                dropped = list(record["init_args"])[: value.count]
                kept = {k: v for k, v in record["init_args"].items() if k not in dropped}
                arguments[name] = {"class_path": record["class_path"], "init_args": kept}
            else:
                arguments[name] = _expand(value, of)
        made_as = getattr(self, "_made_as", type(self))
        path = f"{made_as.__module__}.{made_as.__qualname__}"
        return {"class_path": path, "init_args": arguments}


class _Derived:
    """Stands for an argument that is a factory; ``count`` arguments are given by the owner."""

    def __init__(self, count: int) -> None:
        self.count = count


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def recorded(self: Any, *args: Any, **kwargs: Any) -> None:
        if "_init_values" not in self.__dict__:  # the outermost class of a hierarchy
            where = type(self).__name__
            record = {
                name: _plain(value, f"{where}.{name}", _annotation(type(self), name))
                for name, value in _named_arguments(signature, self, args, kwargs).items()
            }
            object.__setattr__(self, "_init_values", record)
            # A strategy that shards a model makes it an object of a class of its own.
            object.__setattr__(self, "_made_as", type(self))
        init(self, *args, **kwargs)

    return recorded


def _named_arguments(
    signature: inspect.Signature, made: Any, args: Any, kwargs: Any
) -> dict[str, Any]:
    bound = signature.bind(made, *args, **kwargs)
    bound.apply_defaults()
    _, *named = bound.arguments.items()
    arguments: dict[str, Any] = {}
    for name, value in named:
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:  # what a subclass hands on to its base
            arguments.update(value)
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            arguments[name] = value
        elif value:
            raise TypeError(
                f"{type(made).__name__}: arguments that its constructor does not name must be "
                f"given by name, got {len(value)} by position. A checkpoint could not be rebuilt."
            )
    return arguments


def _annotation(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        init: Any = base.__dict__.get("__init__", object)
        parameters = inspect.signature(init).parameters
        if name in parameters:
            try:
                return inspect.signature(init, eval_str=True).parameters[name].annotation
            except NameError:  # a name for type checkers only
                return parameters[name].annotation
    return None


def _plain(value: Any, where: str, annotation: Any = None) -> Any:
    if (
        isinstance(value, Configurable)
        or value is None
        or isinstance(value, bool | int | float | str)
    ):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple | range):
        return [_plain(item, where) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, where) for key, item in value.items()}
    for kind in (annotation, *get_args(annotation)):  # Callable[...], or Callable[...] | None
        if callable(value) and get_origin(kind) is collections.abc.Callable:
            return _Derived(len(get_args(kind)[0]))
    raise TypeError(
        f"{where}: must be a number, a string, a list, a dictionary or a configurable object, "
        f"got {type(value).__name__}. A checkpoint could not be rebuilt from it."
    )


def _expand(value: Any, of: Callable[[Configurable], dict[str, Any]]) -> Any:
    if isinstance(value, Configurable):
        return of(value)
    if isinstance(value, list):
        return [_expand(item, of) for item in value]
    if isinstance(value, dict):
        return {key: _expand(item, of) for key, item in value.items()}
    return value
