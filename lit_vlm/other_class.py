"""What is left of a class's arguments when a later config or option chooses another class."""

import inspect
from typing import Any

from jsonargparse import Namespace, _typehints

from lit_vlm.class_names import import_class

_discard: Any = _typehints.discard_init_args_on_class_path_change
_hint_action: Any = _typehints.ActionTypeHint
_discard_within: Any = _hint_action.discard_init_args_on_class_path_change


def forget_defaults_of_other_class() -> None:
    """Let the parser carry over only arguments that somebody gave.

    It carries all that the new class has, too, over from the old one, also what was only that
    class's default: a resampler in the place of an MLP of two layers would have two layers.
    """
    _typehints.discard_init_args_on_class_path_change = _without_defaults


def replace_names_by_class() -> None:
    """Let one class take the place of a dictionary of classes by names.

    The parser would put the class's keys into the dictionary: a source would be one more name.
    """
    _hint_action.discard_init_args_on_class_path_change = staticmethod(_without_names)


def _without_names(parser_or_action: Any, before: Any, now: Any) -> None:
    if isinstance(before, Namespace) and isinstance(now, Namespace):
        for key in list(before.keys(branches=True)):
            if isinstance(before.get(key), dict) and isinstance(now.get(key), Namespace):
                before[key] = Namespace()  # type: ignore[no-untyped-call]
    _discard_within(parser_or_action, before, now)


def _without_defaults(parser_or_action: Any, before: Any, now: Any) -> Any:
    path = before["class_path"] if before and "init_args" in before else None
    if path is not None and path != now["class_path"]:
        _drop_defaults(before)
    return _discard(parser_or_action, before, now)


def _drop_defaults(spec: Any) -> None:
    given = spec["init_args"]
    try:
        known = inspect.signature(import_class(spec["class_path"])).parameters
    except (ImportError, AttributeError, ValueError):
        return  # the parser says what is wrong with it
    if isinstance(given, Namespace | dict):
        for name, parameter in known.items():
            if name in given and _as_read(given[name]) == _as_read(parameter.default):
                given.pop(name)


def _as_read(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value  # YAML has no tuples
