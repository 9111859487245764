import pytest

from lit_vlm.connectors.heads import resolve_heads


@pytest.mark.parametrize(
    ("dim", "heads"),
    [(4096, 32), (896, 7), (576, 4), (960, 6), (100, 1), (12, 1)],  # 960 / 7 is no whole number
)
def test_by_default_heads_are_of_the_usual_width_or_the_next_larger(dim: int, heads: int) -> None:
    assert resolve_heads("Any", dim, None, head_dim=128) == heads


def test_keeps_a_number_that_divides_the_width() -> None:
    assert resolve_heads("Any", 12, 3, head_dim=128) == 3


@pytest.mark.parametrize("heads", [5, 0, -2])
def test_refuses_a_number_that_does_not_divide_the_width(heads: int) -> None:
    message = f"Any: num_heads must divide the width 256, got {heads}. Leave it out for 2."
    with pytest.raises(ValueError, match=message):
        resolve_heads("Any", 256, heads, head_dim=128)
