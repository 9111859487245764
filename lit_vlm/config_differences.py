"""What a model is configured as, against what a checkpoint was made with."""

from collections.abc import Iterator
from typing import Any


def differences(configured: dict[str, Any], stored: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each option of two constructor records that differs.

    Example:
        >>> now = {"class_path": "A", "init_args": {"depth": 2}}
        >>> list(differences(now, {"class_path": "A", "init_args": {"depth": 3}}))
        ['depth: 2 is used, the checkpoint was made with 3']
    """
    now, then = _flat(configured), _flat(stored)
    for key in sorted(now.keys() | then.keys()):
        if now.get(key) != then.get(key):
            yield f"{key}: {now.get(key)!r} is used, the checkpoint was made with {then.get(key)!r}"


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: list(tree) if isinstance(tree, tuple) else tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = prefix if key == "init_args" else f"{prefix}.{key}" if prefix else str(key)
        flat.update(_flat(value, inner))
    return flat
