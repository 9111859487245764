import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vlm.prompts import read_boxes, write_box


def test_writes_thousandths_of_the_sides() -> None:
    assert write_box((16, 32, 64, 48), size=(64, 128)) == "<box>(250,250),(1000,375)</box>"
    assert write_box((0, 0, 0.5, 1), size=(1, 1)) == "<box>(0,0),(500,1000)</box>"


def test_reads_every_box_of_a_text() -> None:
    text = (
        "<ref>a dog</ref><box>(250,250),(1000,375)</box> and <box> ( 0, 0 ) , (500,1000)\n</box>."
    )
    assert read_boxes(text, size=(64, 128)) == [(16, 32, 64, 48), (0, 0, 32, 128)]
    assert read_boxes("(1,2),(3,4) <box>", size=(64, 128)) == []


SIDE = st.integers(1, 4000)
NUMBER = st.integers(0, 1000)


@given(width=SIDE, height=SIDE, x=st.tuples(NUMBER, NUMBER), y=st.tuples(NUMBER, NUMBER))
def test_what_is_read_is_written_again(
    width: int, height: int, x: tuple[int, int], y: tuple[int, int]
) -> None:
    (x1, x2), (y1, y2) = sorted(x), sorted(y)
    text = f"<box>({x1},{y1}),({x2},{y2})</box>"
    [box] = read_boxes(text, (width, height))
    assert write_box(box, (width, height)) == text


@given(width=SIDE, height=SIDE, part=st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_what_is_written_is_read_to_half_a_thousandth_unless_thin(
    width: int, height: int, part: list[float]
) -> None:
    (x1, x2), (y1, y2) = sorted(part[:2]), sorted(part[2:])
    box = (x1 * width, y1 * height, x2 * width, y2 * height)
    [found] = read_boxes(write_box(box, (width, height)), (width, height))
    for side, before, after in zip((width, height) * 2, box, found, strict=True):
        assert abs(before - after) <= side * 0.001501  # of those thinner than one
        if x2 - x1 > 0.001001 and y2 - y1 > 0.001001:
            assert abs(before - after) <= side * 0.000501


@pytest.mark.parametrize(
    "box", [(-1, 0, 2, 2), (0, 0, 9, 2), (0, 0, 2, 9), (3, 0, 2, 2), (0, 3, 2, 2), (0, -0.5, 2, 2)]
)
def test_refuses_a_box_that_is_not_inside(box: tuple[float, float, float, float]) -> None:
    message = r"write_box: a box must be .* inside the image of 8 x 6 pixels, got \(.*\)\. Clip it"
    with pytest.raises(ValueError, match=message):
        write_box(box, size=(8, 6))


def test_refuses_an_image_without_extent() -> None:
    with pytest.raises(ValueError, match=r"size must be at least 1 x 1, got 0 x 6\."):
        write_box((0, 0, 0, 0), size=(0, 6))


@pytest.mark.parametrize("inside", ["(1,2)", "(1,2),(3,-4)", "(1.5,2),(3,4)", "1,2,3,4", "", "a"])
def test_refuses_what_is_no_box(inside: str) -> None:
    message = r"read_boxes: a box must read .* in whole numbers, got '.*' between its tags\."
    with pytest.raises(ValueError, match=message):
        read_boxes(f"<box>{inside}</box>", size=(8, 6))


@pytest.mark.parametrize(
    "inside", ["(1,2),(1001,4)", "(1,2),(3,1001)", "(5,2),(3,4)", "(1,5),(3,4)"]
)
def test_refuses_numbers_out_of_range(inside: str) -> None:
    message = r"read_boxes: a box must have its corners in order, in numbers from 0 to 1000, got '"
    with pytest.raises(ValueError, match=message):
        read_boxes(f"<box>{inside}</box>", size=(8, 6))
