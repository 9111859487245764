"""A fusion that keeps one level and drops the others."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from lit_vlm.fusions.base import Fusion


class PickLevel(Fusion):
    """Use one level of the encoder's features as it is.

    This is what most systems do: LLaVA reads one layer of CLIP, the last but one.

    Args:
        in_dims: widths of the levels, encoder by encoder.
        level: position among all levels, negative from the end.

    Raises:
        ValueError: if there is no such level.
    """

    def __init__(self, in_dims: Sequence[Sequence[int]], level: int = -1) -> None:
        super().__init__(in_dims)
        if not -len(self.level_dims) <= level < len(self.level_dims):
            raise ValueError(
                f"PickLevel: level must name one of the encoder's {len(self.level_dims)} levels, "
                f"got {level}. Ask the encoder for more layers or pick another level."
            )
        self.level = level
        self.out_dim = self.level_dims[level]

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches``: nothing is merged."""
        return num_patches

    def forward(self, levels: tuple[Float[Tensor, "B N _"], ...]) -> Float[Tensor, "B N D_out"]:
        """Return the chosen level."""
        return levels[self.level]
