"""Positions at grids that they were not made for."""

from math import isqrt

from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate


def interpolate_positions(
    table: Float[Tensor, "N D"], grid: tuple[int, int]
) -> Float[Tensor, "M D"]:
    """Resample a square table of patch positions to a grid: bicubic, in float32, corners unaligned.

    Args:
        table: positions of a square grid, row-major, without those of prefix tokens.
        grid: rows and columns wanted; the table itself is returned if it has them.

    Source:
        transformers' CLIP, SigLIP and DINOv2, and Qwen-VL (Bai et al., 2023), do the same.
    """
    side = isqrt(table.shape[0])
    if grid == (side, side):
        return table
    square = rearrange(table.float(), "(h w) d -> 1 d h w", h=side)
    resampled = interpolate(square, grid, mode="bicubic", align_corners=False)
    return rearrange(resampled, "1 d h w -> (h w) d").to(table.dtype)
