"""What sources may be told to do with a sample that cannot be used."""


def check_skipping(source: object, option: str, said: str, max_skipped: int) -> None:
    """Refuse what is neither ``error`` nor ``skip``, or a ceiling below nothing.

    Args:
        source: whose arguments they are.
        option: the first one's name.
        said: its value.
        max_skipped: most samples that may be skipped.

    Raises:
        ValueError: if an argument is not one of those.
    """
    who = type(source).__name__
    if said not in ("error", "skip"):
        raise ValueError(f"{who}: {option} must be 'error' or 'skip', got {said!r}.")
    if max_skipped < 0:
        raise ValueError(f"{who}: max_skipped must not be negative, got {max_skipped}.")
