"""What patterns of part names mean to each other, where no model is there to ask."""

import fnmatch
from collections.abc import Iterable

from lit_vlm.part_names import number_range


def covers(pattern: str, other: str) -> bool:
    """Whether a pattern means all that another one does, or what that one is inside of.

    Levels that ``find_parts`` lets a pattern leave out are not known here.

    Example:
        >>> covers("encoder", "encoder.blocks.20-"), covers("encoder.blocks.2-", "encoder")
        (True, False)
        >>> covers("encoder.blocks.20-", "encoder.blocks.22-23"), covers("*", "connector")
        (True, True)
    """
    pieces, others = pattern.split("."), other.split(".")
    return len(pieces) <= len(others) and all(map(_piece_covers, pieces, others))


def any_covers(patterns: Iterable[str], other: str) -> bool:
    """Whether one of several patterns means all that another one does."""
    return any(covers(pattern, other) for pattern in patterns)


def _piece_covers(piece: str, other: str) -> bool:
    outer, inner = _bounds(piece), _bounds(other)
    if outer is not None and inner is not None:
        return outer[0] <= inner[0] and inner[1] <= outer[1]
    return fnmatch.fnmatchcase(other, piece)


def _bounds(piece: str) -> tuple[float, float] | None:
    return (float(piece), float(piece)) if piece.isdigit() else number_range(piece)
