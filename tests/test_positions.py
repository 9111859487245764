import pytest
import torch
from torch.nn.functional import interpolate
from torch.testing import assert_close

from lit_vlm.positions import interpolate_positions


def test_leaves_the_table_alone_at_the_grid_that_it_was_learned_at() -> None:
    table = torch.randn(9, 4)
    assert interpolate_positions(table, (3, 3)) is table


@pytest.mark.parametrize("grid", [(6, 6), (2, 2), (3, 5), (1, 9)], ids=str)
def test_is_bicubic_and_row_major(grid: tuple[int, int]) -> None:
    table = torch.randn(9, 4)
    image = table.reshape(3, 3, 4).permute(2, 0, 1).unsqueeze(0)
    expected = interpolate(image, grid, mode="bicubic", align_corners=False)
    positions = interpolate_positions(table, grid)
    assert positions.shape == (grid[0] * grid[1], 4)
    for row in range(grid[0]):
        for column in range(grid[1]):
            token = positions[row * grid[1] + column]
            assert_close(token, expected[0, :, row, column])


def test_a_doubled_ramp_is_by_hand() -> None:
    # Output column 3 of 8 is read at 3.5 / 2 - 0.5 = 1.25 of 4: the weights of columns 0 to 3 are
    # those of torch's cubic (a = -0.75) at distances 1.25, 0.25, 0.75 and 1.75.
    weights = (-0.10546875, 0.87890625, 0.26171875, -0.03515625)
    expected = sum(column * weight for column, weight in enumerate(weights))
    table = torch.arange(4.0).repeat(4).reshape(16, 1)
    positions = interpolate_positions(table, (8, 8)).reshape(8, 8)
    assert_close(positions[:, 3], torch.full((8,), expected))
    assert_close(positions[:, 4], torch.full((8,), 3 - expected))


def test_interpolates_bfloat16_in_full_precision() -> None:
    table = torch.randn(16, 8).to(torch.bfloat16)
    positions = interpolate_positions(table, (7, 7))
    assert positions.dtype == torch.bfloat16
    exact = interpolate_positions(table.float(), (7, 7))
    assert torch.equal(positions, exact.to(torch.bfloat16))


def test_gradients_reach_the_whole_table() -> None:
    table = torch.randn(9, 4, requires_grad=True)
    torch.autograd.backward(interpolate_positions(table, (5, 5)).sum())
    assert table.grad is not None
    assert (table.grad != 0).all()
