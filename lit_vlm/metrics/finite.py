"""Vectors that hold numbers only."""

from jaxtyping import Bool, Float
from torch import Tensor


def finite_rows(vectors: Float[Tensor, "N D"]) -> Bool[Tensor, "N"]:
    """Return which vectors hold neither nan nor infinity."""
    return vectors.isfinite().all(dim=1)


def check_finite(vectors: Float[Tensor, "N D"], name: str) -> None:
    """Refuse vectors to learn from of which some hold nan or infinity.

    Args:
        vectors: all of them.
        name: what learns from them, for the message.

    Raises:
        ValueError: if some do; it says how many.
    """
    wrong = int((~finite_rows(vectors)).sum())
    if wrong:
        raise ValueError(
            f"{name}: vectors to learn from must be finite, got {wrong:,} of {len(vectors):,} with "
            f"nan or infinity. Look whether the encoder's weights are finite, or raise the "
            f"precision."
        )
