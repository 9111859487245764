import pytest
import torch

from lit_vlm.fusions import PickLevel
from lit_vlm.testing import check_fusion


@pytest.mark.parametrize("level", [0, 1, -1, -3])
def test_contract(level: int) -> None:
    check_fusion(PickLevel([[4, 8, 12]], level=level), num_patches=6)


@pytest.mark.parametrize(("level", "picked"), [(0, 0), (1, 1), (2, 2), (-1, 2), (-2, 1), (-3, 0)])
def test_returns_the_level_as_it_is(level: int, picked: int) -> None:
    levels = tuple(torch.randn(2, 6, dim) for dim in (4, 8, 12))
    fusion = PickLevel([[4, 8], [12]], level=level)
    assert fusion(levels) is levels[picked]
    assert fusion.out_dim == (4, 8, 12)[picked]


@pytest.mark.parametrize("level", [2, -3])
def test_refuses_a_level_that_the_encoder_does_not_return(level: int) -> None:
    with pytest.raises(ValueError, match=f"one of the encoder's 2 levels, got {level}. Ask the"):
        PickLevel([[4, 8]], level=level)
