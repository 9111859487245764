"""Which patches of an image a student does not see."""

import math

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

_SMALLEST, _TRIES = 4, 10
_LOG_ASPECT = math.log(0.3)


def draw_masks(
    num_images: int,
    grid: tuple[int, int],
    ratio: tuple[float, float],
    random: np.random.Generator,
) -> Bool[Tensor, "B N"]:
    """Draw masks of rectangular blocks for half of the images, in random places of the batch.

    The masked shares of these images are spread evenly over the range, so that their sum hardly
    varies between batches.

    Args:
        num_images: number B of images; of an odd number the larger half stays whole, but of one it
            is masked.
        grid: rows and columns of the patches.
        ratio: least and greatest share of the patches that are masked in an image; at least one
            patch is.
        random: where the numbers come from.

    Source:
        iBOT (Zhou et al., 2022), and DINOv2's code, where blocks may cover less than the share
        drawn; here single patches make up for it.

    Example:
        >>> masks = draw_masks(4, (8, 8), (0.25, 0.5), np.random.default_rng(0))
        >>> sorted(masks.sum(dim=1).tolist())
        [0, 0, 16, 24]
    """
    num_masked = max(num_images // 2, 1)
    low, high = ratio
    edges = np.linspace(low, high, num_masked + 1)
    masks = np.zeros((num_images, *grid), dtype=bool)
    places = random.permutation(num_images)[:num_masked]
    for place, share in zip(places, random.uniform(edges[:-1], edges[1:]), strict=True):
        _mask(masks[place], max(int(share * masks[place].size), 1), random)
    return torch.from_numpy(masks).flatten(1)


def _mask(mask: np.ndarray, wanted: int, random: np.random.Generator) -> None:
    while (left := wanted - int(mask.sum())) > 0 and _add_block(mask, left, random):
        pass
    free = np.flatnonzero(~mask)
    mask.flat[random.permutation(free)[: max(left, 0)]] = True


def _add_block(mask: np.ndarray, at_most: int, random: np.random.Generator) -> bool:
    rows, columns = mask.shape
    for _ in range(_TRIES):
        area = random.uniform(min(_SMALLEST, at_most), at_most)
        aspect = math.exp(random.uniform(_LOG_ASPECT, -_LOG_ASPECT))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height < rows and width < columns:
            top = random.integers(rows - height, endpoint=True)
            left = random.integers(columns - width, endpoint=True)
            block = mask[top : top + height, left : left + width]
            if 0 < block.size - int(block.sum()) <= at_most:
                block[:] = True
                return True
    return False
