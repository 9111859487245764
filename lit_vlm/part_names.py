"""Names and patterns of what is inside a model, as configs write them."""

import fnmatch
import re
from collections.abc import Iterable, Sequence

from torch import nn

from lit_vlm.errors import nearest

_RANGE = re.compile(r"(\d+)-(\d*)")


def find_parts(root: nn.Module, patterns: Iterable[str], asked_by: str) -> list[str]:
    """Return the names of the modules and parameters that patterns mean, in the model's order.

    A pattern is a dotted name, such as ``connector`` or ``logit_scale``. Any piece of it may be a
    range of numbers (``encoder.blocks.20-``, ``encoder.blocks.0-3``) or have wildcards
    (``encoder.*.norm?``). Levels behind the first piece may be left out where no name has exactly
    these pieces: ``language_model.embed_tokens`` finds ``language_model.model.model.embed_tokens``.
    What is inside another result is not listed again.

    Args:
        root: the model.
        patterns: what to find.
        asked_by: who asks, for the message: ``Freeze: parts``.

    Raises:
        ValueError: if a pattern means nothing in the model.

    Example:
        >>> model = nn.ModuleDict({"encoder": nn.Sequential(*[nn.Linear(2, 2) for _ in range(4)])})
        >>> find_parts(model, ["encoder.2-"], "Example: parts")
        ['encoder.2', 'encoder.3']
    """
    names = [name for name, _ in root.named_modules() if name]
    names += [name for name, _ in root.named_parameters(remove_duplicate=False)]
    found: set[str] = set()
    for pattern in patterns:
        matches = _matches(pattern, names)
        if not matches:
            children = ", ".join(name for name, _ in root.named_children())
            hint = nearest(pattern, names, list_all=False) + _stacks(names, pattern)
            raise ValueError(
                f"{asked_by} must name modules of {type(root).__name__} ({children} and what is "
                f"inside them), got {pattern!r}.{hint}"
            )
        found.update(matches)
    return [name for name in names if name in found and not _inside_another(name, found)]


def _stacks(names: Sequence[str], pattern: str) -> str:
    # Blocks are called layers, blocks or h: what there is helps more than a word that is like it.
    top = pattern.partition(".")[0]
    numbers: dict[str, list[int]] = {}
    for name in names:
        owner, _, last = name.rpartition(".")
        if last.isdigit() and name.startswith(f"{top}."):
            numbers.setdefault(owner, []).append(int(last))
    found = [f"{name}.0-{max(places)}" for name, places in numbers.items() if len(places) > 1]
    return f" Numbered there: {', '.join(found[:4])}." if found and "." in pattern else ""


def is_within(name: str, parts: Iterable[str]) -> bool:
    """Whether a module or parameter is one of ``parts`` or inside one."""
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _inside_another(name: str, found: set[str]) -> bool:
    return is_within(name, (other for other in found if other != name))


def _matches(pattern: str, names: Sequence[str]) -> list[str]:
    pieces = pattern.split(".")
    split = [(name, name.split(".")) for name in names]
    exact = [
        name
        for name, parts in split
        if len(parts) == len(pieces) and all(map(_fits, parts, pieces))
    ]
    if exact or len(pieces) == 1:
        return exact
    loose = [(name, parts) for name, parts in split if _fits_with_gaps(parts, pieces)]
    shallowest = min((len(parts) for _, parts in loose), default=0)
    return [name for name, parts in loose if len(parts) == shallowest]


def number_range(piece: str) -> tuple[float, float] | None:
    """Return the first and the last number of a range such as ``20-`` or ``0-3``; else None."""
    found = _RANGE.fullmatch(piece)
    return None if found is None else (float(found[1]), float(found[2] or "inf"))


def _fits(part: str, piece: str) -> bool:
    if part.isdigit() and (bounds := number_range(piece)):
        return bounds[0] <= int(part) <= bounds[1]
    return fnmatch.fnmatchcase(part, piece)


def _fits_with_gaps(parts: Sequence[str], pieces: Sequence[str]) -> bool:
    # The first and the last piece are held fast; those between are found in order.
    if len(parts) < len(pieces) or not _fits(parts[0], pieces[0]):
        return False
    if not _fits(parts[-1], pieces[-1]):
        return False
    between = iter(parts[1:-1])
    return all(any(_fits(part, piece) for part in between) for piece in pieces[1:-1])
