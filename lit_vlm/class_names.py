"""The classes and options that a config may name, for messages about those it does not."""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any, get_args

import lit_vlm


@functools.cache
def known_classes() -> dict[str, type]:
    """Return this library's public classes by name; their modules are then imported.

    Once imported, a class can be named in a config without its module.
    """
    found: dict[str, type] = {"VisionLanguageModel": lit_vlm.VisionLanguageModel}
    for module in pkgutil.iter_modules(lit_vlm.__path__, "lit_vlm."):
        if module.ispkg:
            package = importlib.import_module(module.name)
            public = {name: getattr(package, name) for name in package.__all__}
            found |= {name: item for name, item in public.items() if inspect.isclass(item)}
    return found


def import_class(path: str) -> Any:
    """Return the object at a dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def names_in(module: str) -> list[str]:
    """Return the classes and modules that are in a module."""
    imported = importlib.import_module(module)
    inside = [info.name for info in pkgutil.iter_modules(getattr(imported, "__path__", []))]
    return inside + [
        name
        for name, item in vars(imported).items()
        if inspect.isclass(item) and item.__module__.startswith(module)
    ]


def names_of_kind(bases: tuple[type, ...]) -> list[str]:
    """Return the names of this library's concrete classes that derive from one of ``bases``."""
    return [
        name
        for name, item in known_classes().items()
        if issubclass(item, bases) and not inspect.isabstract(item)
    ]


def annotation_of(class_path: str, parameter: str) -> Any:
    """Return how a constructor's parameter is typed; None if it has no such parameter."""
    found = inspect.signature(import_class(class_path)).parameters.get(parameter)
    return None if found is None else found.annotation


def classes_within(annotation: Any) -> tuple[type, ...]:
    """Return the component classes named in a type, e.g. ``Connector`` in a callable's result."""
    return tuple(dict.fromkeys(_classes_within(annotation)))


def _classes_within(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, list):
        return  # the arguments of a callable
    if inspect.isclass(annotation) and hasattr(annotation, "init_config"):
        yield annotation
    for inner in get_args(annotation):
        yield from _classes_within(inner)


def derived_options(class_path: str, annotation: Any) -> list[str]:
    """Return the leading arguments of a class that its owner gives, not the config."""
    arguments = get_args(annotation)
    if not arguments or not isinstance(arguments[0], list):
        return []
    return list(inspect.signature(import_class(class_path)).parameters)[: len(arguments[0])]


def accepted_options(class_path: str) -> list[str]:
    """Return the names of a constructor's arguments."""
    return [
        name
        for name, parameter in inspect.signature(import_class(class_path)).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
