from math import cos, sin
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.testing import assert_close

from lit_vlm import positions
from lit_vlm.connectors.positions import grid_side, sincos_positions
from lit_vlm.positions import interpolate_positions


def test_a_place_is_the_sines_and_cosines_of_its_column_then_of_its_row() -> None:
    table = sincos_positions(dim=8, side=3)  # two frequencies, 1 and 10000 ** -0.5 = 1/100
    assert table.shape == (9, 8)
    column, row = 2, 1
    expected = [sin(2), sin(0.02), cos(2), cos(0.02), sin(1), sin(0.01), cos(1), cos(0.01)]
    assert_close(table[3 * row + column], torch.tensor(expected), atol=1e-6, rtol=0)


def test_the_first_half_of_the_channels_is_the_column_the_second_the_row() -> None:
    grid = sincos_positions(dim=16, side=4).reshape(4, 4, 16)
    columns, rows = grid[..., :8], grid[..., 8:]
    assert torch.equal(columns, columns[:1].expand_as(columns)), "does not vary down the rows"
    assert torch.equal(rows, rows[:, :1].expand_as(rows)), "does not vary along the columns"
    assert not torch.equal(columns[0, 0], columns[0, 1])
    assert torch.equal(columns[0], rows[:, 0]), "both coordinates are encoded alike"


def test_positions_at_their_own_grid_are_the_table_itself() -> None:
    table = sincos_positions(dim=8, side=4)
    assert interpolate_positions(table, (4, 4)) is table


@pytest.mark.parametrize("side", [2, 3, 6, 8])
def test_positions_at_another_grid_keep_column_and_row_apart(side: int) -> None:
    grid = interpolate_positions(sincos_positions(dim=8, side=4), (side, side)).reshape(
        side, side, 8
    )
    columns, rows = grid[..., :4], grid[..., 4:]
    assert_close(columns, columns[:1].expand_as(columns), atol=1e-6, rtol=0)
    assert_close(rows, rows[:, :1].expand_as(rows), atol=1e-6, rtol=0)
    assert columns[..., 0].std(dim=1).min() > 0.05, "columns differ"


def test_the_table_is_resampled_not_computed_anew() -> None:
    resampled = interpolate_positions(sincos_positions(dim=8, side=4), (8, 8))
    assert (resampled - sincos_positions(dim=8, side=8)).abs().max() > 0.5


def test_a_linear_ramp_is_resampled_to_the_centres_of_the_new_places() -> None:
    ramp = torch.arange(8.0).repeat(8, 1).reshape(64, 1)  # each row 0, 1, ..., 7
    halved = interpolate_positions(ramp, (4, 4)).reshape(4, 4)
    # New place k has its centre at 2k + 0.5; the kernel is exact on a line away from the border.
    assert_close(halved[:, 1:3], torch.tensor([2.5, 4.5]).expand(4, 2))


def test_a_table_of_low_precision_is_resampled_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(table: Tensor, *args: Any, **options: Any) -> Tensor:
        seen.append(table.dtype)
        return interpolate(table, *args, **options)

    monkeypatch.setattr(positions, "interpolate", spy)
    table = sincos_positions(dim=8, side=4).bfloat16()
    assert interpolate_positions(table, (8, 8)).dtype == torch.bfloat16
    assert seen == [torch.float32]


@pytest.mark.parametrize(("tokens", "side"), [(1, 1), (4, 2), (576, 24)])
def test_finds_the_side_of_a_square_grid(tokens: int, side: int) -> None:
    assert grid_side("Any", tokens) == side


@pytest.mark.parametrize("tokens", [0, 2, 15, 577])
def test_refuses_what_is_no_square_grid(tokens: int) -> None:
    with pytest.raises(ValueError, match=f"Any: .* a square grid, got {tokens} tokens. Change"):
        grid_side("Any", tokens)


@pytest.mark.parametrize("tokens", [9, 15, 25])
def test_refuses_a_side_that_is_no_multiple(tokens: int) -> None:
    message = f"Any: .* a square grid, its side a multiple of 2, got {tokens} tokens. Change"
    with pytest.raises(ValueError, match=message):
        grid_side("Any", tokens, multiple_of=2)
