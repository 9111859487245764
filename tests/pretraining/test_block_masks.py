import numpy as np
import pytest
import torch

from lit_vlm.pretraining.block_masks import draw_masks


def draw(
    num_images: int, grid: tuple[int, int], ratio: tuple[float, float], seed: int = 0
) -> torch.Tensor:
    return draw_masks(num_images, grid, ratio, np.random.default_rng(seed))


def test_masks_half_of_the_images_by_shares_spread_over_the_range() -> None:
    counts = draw(40, (10, 10), (0.1, 0.5)).sum(dim=1)
    masked = counts[counts > 0].sort().values
    assert len(masked) == 20
    edges = torch.linspace(10, 50, 21)
    assert (masked >= edges[:-1].floor()).all()
    assert (masked <= edges[1:]).all()


def test_masked_images_are_anywhere_in_the_batch() -> None:
    masked = torch.stack([draw(8, (4, 4), (0.1, 0.5), seed).any(dim=1) for seed in range(50)])
    assert (masked.sum(dim=1) == 4).all()
    assert (masked.sum(dim=0) > 10).all()


def test_masks_are_blocks() -> None:
    mask = draw(1, (14, 14), (0.3, 0.3)).reshape(14, 14)
    neighbours = (mask[:, 1:] & mask[:, :-1]).sum() + (mask[1:] & mask[:-1]).sum()
    # Each patch has two such neighbours in a large block, but 0.3 * 2 where places are random.
    assert neighbours / mask.sum() > 1.2


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 5)])
def test_the_smallest_maps_have_at_least_one_patch_masked(grid: tuple[int, int]) -> None:
    counts = draw(2, grid, (0.1, 0.5)).sum(dim=1).sort().values
    assert counts[0] == 0
    assert 1 <= counts[1] <= max(0.5 * grid[0] * grid[1], 1)


def test_all_depends_on_the_seed() -> None:
    assert torch.equal(draw(4, (8, 8), (0.1, 0.5)), draw(4, (8, 8), (0.1, 0.5)))
    assert not torch.equal(draw(4, (8, 8), (0.1, 0.5)), draw(4, (8, 8), (0.1, 0.5), seed=1))
