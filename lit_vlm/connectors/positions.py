"""Square grids of tokens, and fixed positions on them."""

from math import isqrt

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor


def grid_side(owner: str, num_patches: int, multiple_of: int = 1) -> int:
    """Return the side of the square grid that ``num_patches`` tokens form.

    Args:
        owner: the connector's class, for the message.
        num_patches: number of vision tokens.
        multiple_of: what must divide the side.

    Raises:
        ValueError: if there is no such grid.
    """
    side = isqrt(num_patches)
    if not side or side**2 != num_patches or side % multiple_of:
        tiled = f", its side a multiple of {multiple_of}" if multiple_of > 1 else ""
        raise ValueError(
            f"{owner}: the vision tokens must form a square grid{tiled}, got {num_patches} tokens. "
            f"Change the encoder's image size, or take a connector that works token by token, "
            f"such as MLPConnector."
        )
    return side


def sincos_positions(dim: int, side: int) -> Float[Tensor, "N D"]:
    """Return a table of fixed positions, one row for each place of a square grid, row-major.

    The first half of the channels encodes the column, the second half the row. Each half is the
    sine, then the cosine, of the coordinate times ``dim / 4`` frequencies, which fall from 1
    towards 1/10000.

    Args:
        dim: width of the table, a multiple of 4.
        side: side of the grid.

    Source:
        MAE (He et al., 2021), https://arxiv.org/abs/2111.06377, whose grid is built column first.
    """
    steps = torch.arange(dim // 4, dtype=torch.float64) / (dim // 4)
    angles = torch.arange(side, dtype=torch.float64).unsqueeze(1) * 10000**-steps
    encoded = torch.cat([angles.sin(), angles.cos()], dim=1).float()
    columns = repeat(encoded, "column d -> (row column) d", row=side)
    rows = repeat(encoded, "row d -> (row column) d", column=side)
    return torch.cat([columns, rows], dim=1)
