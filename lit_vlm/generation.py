"""The options of generation, and what each may be."""

from collections.abc import Callable

_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "max_new_tokens": (lambda value: value >= 1, "at least 1"),
    "temperature": (lambda value: value >= 0, "0 or more"),
    "top_p": (lambda value: 0 < value <= 1, "more than 0 and at most 1"),
}
GENERATION_OPTIONS = tuple(_RANGES)


def out_of_range(name: str, value: int | float) -> str | None:
    """Say what an option of generation must be, or return None if the value is right.

    Example:
        >>> out_of_range("top_p", 0.0)
        'top_p must be more than 0 and at most 1, got 0.0.'
    """
    is_right, wanted = _RANGES[name]
    return None if is_right(value) else f"{name} must be {wanted}, got {value}."
