import pytest

from lit_vlm.encoders.layers import resolve_layers


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([-1], (12,)),
        ([-2], (11,)),
        ([0, 12, -13, 3, 3], (0, 12, 0, 3, 3)),
        (range(10, 13), (10, 11, 12)),
    ],
    ids=str,
)
def test_counts_from_either_end_and_keeps_the_order(
    layers: list[int], expected: tuple[int, ...]
) -> None:
    assert resolve_layers("Any", layers, highest=12) == expected


def test_negative_numbers_count_from_the_last_whatever_the_first_is() -> None:
    assert resolve_layers("Any", [1, -1, -4], highest=4, lowest=1) == (1, 4, 1)


@pytest.mark.parametrize("layer", [13, -14, 100])
def test_refuses_a_layer_that_does_not_exist(layer: int) -> None:
    message = rf"^Any: layers must be 0 to 12 \(or -1 for 12 and down\), got {layer}\.$"
    with pytest.raises(ValueError, match=message):
        resolve_layers("Any", [1, layer], highest=12)


@pytest.mark.parametrize("layer", [0, -5])
def test_refuses_a_layer_before_the_first_and_names_the_network(layer: int) -> None:
    message = rf"^Any: layers of vgg11 must be 1 to 4 .*, got {layer}\.$"
    with pytest.raises(ValueError, match=message):
        resolve_layers("Any", [layer], highest=4, lowest=1, network="vgg11")


def test_refuses_no_layers() -> None:
    with pytest.raises(ValueError, match=r"^Any: layers must name at least one layer, got none\.$"):
        resolve_layers("Any", [], highest=12)
