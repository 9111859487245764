"""Plans by name in several config files: what a later one leaves out stays as it was."""

from collections.abc import Iterable, Sequence
from typing import Any

PLANS = ("staged_freezing.stages", "pretrained_lr.parts")
"""Keys whose names are merged over files, and the fields under each name with them."""


def merged_plans(contents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the plans that several configs make together, the later ones on top.

    The parser would replace a dictionary as a whole, and with it every stage that the last file
    does not name.

    Args:
        contents: what the files say, in order.

    Returns:
        A config of the keys that several files speak of; null in a file forgets those before it.

    Example:
        >>> first = {"staged_freezing": {"stages": {"align": {"steps": 9}, "tune": {"steps": 5}}}}
        >>> second = {"staged_freezing": {"stages": {"tune": {"steps": 7}}}}
        >>> merged_plans([first, second])
        {'staged_freezing': {'stages': {'align': {'steps': 9}, 'tune': {'steps': 7}}}}
    """
    merged: dict[str, Any] = {}
    for key in PLANS:
        group, _, name = key.partition(".")
        said = _said(contents, key)
        if len(said) > 1 and said[-1] is not None:
            merged[group] = {name: _on_top(said)}
    return merged


def plan_of(contents: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """Return one plan as all configs make it; empty if none speaks of it.

    Args:
        contents: what the files say, in order.
        key: one of ``PLANS``.
    """
    return _on_top(_said(contents, key))


def _said(contents: Sequence[dict[str, Any]], key: str) -> list[Any]:
    group, _, name = key.partition(".")
    return [content[group][name] for content in contents if _says(content, group, name)]


def _says(content: dict[str, Any], group: str, name: str) -> bool:
    return isinstance(content.get(group), dict) and name in content[group]


def _on_top(plans: Iterable[Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for plan in plans:
        if not isinstance(plan, dict):
            merged = {}
            continue
        for name, fields in plan.items():
            below = merged.get(name)
            if isinstance(below, dict) and isinstance(fields, dict):
                merged[name] = {**below, **fields}
            else:
                merged[name] = fields
    return merged
