"""Names of classes and the numbers that stand for them."""

from collections.abc import Iterable, Sequence

_SHOWN = 5


def check_class_names(owner: str, classes: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return names as a tuple.

    Raises:
        ValueError: if there is none, or one is there twice.
    """
    if classes is None:
        return None
    if isinstance(classes, str) or not classes or len(set(classes)) < len(classes):
        raise ValueError(f"{owner}: classes must be a list of different names, got {classes!r}.")
    return tuple(classes)


def order_of_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return different names in alphabetical order; whole numbers in the order of their size."""
    different = set(names)
    numbers = all(name.isdecimal() for name in different)
    return tuple(sorted(different, key=lambda name: (int(name) if numbers else 0, name)))


def numbers_among(classes: Sequence[str], known: Sequence[str], names: str) -> list[int]:
    """Return for each class of one source its number in another.

    Args:
        classes: the classes of the one.
        known: the classes of the other.
        names: what the two are called, for the message: ``val and train``.

    Raises:
        ValueError: if they are not the same classes, in whatever order.
    """
    one, other = names.split(" and ")
    extra = [name for name in classes if name not in set(known)]
    missing = [name for name in known if name not in set(classes)]
    if extra or missing:
        only = [
            f"only in {split}: {_few(found)}"
            for split, found in ((one, extra), (other, missing))
            if found
        ]
        raise ValueError(
            f"ImageClassificationDataModule: {names} must have the same classes, got "
            f"{len(classes)} and {len(known)}; {'; '.join(only)}. Give both sources the same "
            f"classes: [...]."
        )
    places = {name: number for number, name in enumerate(known)}
    return [places[name] for name in classes]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
