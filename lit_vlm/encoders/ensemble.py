"""Several encoders that look at the same picture."""

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import interpolate

from lit_vlm.encoders.base import VisionEncoder, VisualFeatures


class EnsembleEncoder(VisionEncoder):
    """Run any encoders side by side, each at its own size and under its own normalisation.

    All of them see the same crop. Their levels follow one another in the order of the encoders;
    a fusion (``ChannelConcat``, ``TokenConcat``, ``COMMFusion``, ...) makes one map of them. Levels
    of another grid are resampled (bilinear, antialiased) to the grid of the first encoder, or to
    ``grid``.

    Args:
        encoders: the encoders by name, two or more; the name is how a callback or the command line
            reaches one (``encoder.encoders.dino``).
        grid: rows and columns that all levels are brought to; None for the first encoder's.

    Raises:
        ValueError: if there are fewer than two encoders, a name cannot be an attribute's, or
            ``grid`` is not positive.

    Source:
        COMM (Jiang et al., 2023), https://arxiv.org/abs/2310.08825; prismatic's DINOv2 + SigLIP
        (Karamcheti et al., 2024), https://arxiv.org/abs/2402.07865.

    Example:
        >>> from lit_vlm.encoders import CLIPEncoder, DINOv2Encoder
        >>> sizes = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 14}
        >>> clip = CLIPEncoder(sizes, layers=[1, 2, 3], image_size=56)
        >>> dino = DINOv2Encoder(config=sizes, layers=[-1], image_size=84)
        >>> encoder = EnsembleEncoder({"clip": clip, "dino": dino})
        >>> encoder.grid, encoder.dims_by_encoder
        ((4, 4), ((32, 32, 32), (32,)))
    """

    def __init__(
        self, encoders: dict[str, VisionEncoder], grid: tuple[int, int] | None = None
    ) -> None:
        _check(encoders, grid)
        members = list(encoders.values())
        size = (max(m.image_size[0] for m in members), max(m.image_size[1] for m in members))
        mean = torch.stack([member.mean.flatten() for member in members]).mean(0)
        std = torch.stack([member.std.flatten() for member in members]).mean(0)
        # Only what pads a picture comes from these: each encoder normalises by its own.
        super().__init__(size, mean.tolist(), std.tolist())
        self.encoders = nn.ModuleDict(encoders)
        self.grid = members[0].grid if grid is None else (grid[0], grid[1])
        self.dims = tuple(dim for member in members for dim in member.dims)

    @property
    def dims_by_encoder(self) -> tuple[tuple[int, ...], ...]:
        """Widths of the levels of each encoder, in order."""
        return tuple(encoder.dims for encoder in self._members())

    @property
    def level_names(self) -> tuple[str, ...]:
        """Each encoder's name and what it calls its level."""
        named = zip(self.encoders, self._members(), strict=True)
        return tuple(f"{name}.{level}" for name, member in named for level in member.level_names)

    def preprocess(
        self, images: Shaped[Tensor, "B 3 _ _"], size: tuple[int, int] | None = None
    ) -> Shaped[Tensor, "B 3 _ _"]:
        """Leave the images as they are: each encoder resizes and normalises for itself."""
        return images

    def encode(self, pixels: Shaped[Tensor, "B 3 _ _"]) -> VisualFeatures:
        """Run every encoder on the same images and bring their levels to one grid."""
        seen = [encoder(pixels) for encoder in self._members()]
        levels = tuple(
            self._to_grid(level, features.grid) for features in seen for level in features.levels
        )
        pooled = [features.pooled for features in seen if features.pooled is not None]
        together = torch.cat(pooled, dim=-1) if len(pooled) == len(seen) else None
        return VisualFeatures(levels, self.grid, together)

    def _members(self) -> list[VisionEncoder]:
        return [encoder for encoder in self.encoders.values() if isinstance(encoder, VisionEncoder)]

    def _to_grid(
        self, level: Float[Tensor, "B N D"], grid: tuple[int, int]
    ) -> Float[Tensor, "B M D"]:
        if grid == self.grid:
            return level
        image = rearrange(level, "b (h w) d -> b d h w", h=grid[0])
        resampled = interpolate(image.float(), self.grid, mode="bilinear", antialias=True)
        return rearrange(resampled, "b d h w -> b (h w) d").to(level.dtype)


def _check(encoders: dict[str, VisionEncoder], grid: tuple[int, int] | None) -> None:
    if len(encoders) < 2:
        raise ValueError(
            f"EnsembleEncoder: encoders must be two or more, got {len(encoders)}. Use a single one "
            f"directly."
        )
    for name in encoders:
        if not name.isidentifier() or hasattr(nn.ModuleDict, name):
            raise ValueError(
                f"EnsembleEncoder: encoders must have names like clip or dino_large, got {name!r}."
            )
    if grid is not None and min(grid) < 1:
        raise ValueError(f"EnsembleEncoder: grid must be positive, got {tuple(grid)}.")
