import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vlm.metrics import BoxAccuracy
from lit_vlm.metrics.box_accuracy import box_iou
from lit_vlm.prompts import BoxFormat, PlainBoxes, QwenBoxes

LEFT, RIGHT = "<box>(0,0),(500,1000)</box>", "<box>(500,0),(1000,1000)</box>"
MOST = "<box>(0,0),(600,1000)</box>"


def figures(
    generated: str, *answers: str, metric: BoxAccuracy | None = None
) -> tuple[float, float]:
    metric = metric or BoxAccuracy()
    metric.update([generated], [answers], [0])
    found = metric.figures()
    return found["box_accuracy"], found["mean_iou"]


def test_overlap_of_the_same_is_one_and_of_neighbours_nothing() -> None:
    assert box_iou((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert box_iou((0, 0, 2, 2), (2, 0, 4, 2)) == 0
    assert box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert box_iou((0, 0, 4, 4), (1, 1, 2, 3)) == pytest.approx(2 / 16)
    assert box_iou((1, 1, 1, 1), (1, 1, 1, 1)) == 1  # without an area, but the same
    assert box_iou((1, 1, 1, 2), (1, 1, 1, 3)) == 0


sides = st.tuples(st.integers(0, 8), st.integers(0, 8)).map(lambda ends: tuple(sorted(ends)))
boxes = st.tuples(sides, sides).map(lambda s: (s[0][0], s[1][0], s[0][1], s[1][1]))


@given(boxes, boxes)
def test_equals_counting_the_cells_of_a_grid(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> None:
    cells = [
        {(x, y) for x in range(left, right) for y in range(top, bottom)}
        for left, top, right, bottom in (one, other)
    ]
    union = len(cells[0] | cells[1])
    expected = 1 if one == other else len(cells[0] & cells[1]) / union if union else 0
    assert box_iou(one, other) == pytest.approx(expected)
    # Shares of the sides of a wide image overlap as pixels do.
    wide = [(left / 8, top / 2, right / 8, bottom / 2) for left, top, right, bottom in (one, other)]
    assert box_iou(*wide) == pytest.approx(box_iou(one, other))


@pytest.mark.parametrize(
    ("generated", "right", "overlap"),
    [
        (f"the dog {MOST}", 1, 5 / 6),
        ("(0,0),(600,1000)</box>", 1, 5 / 6),  # what follows a prompt that ends in <box>
        (RIGHT, 0, 0),
        (f"{RIGHT}{LEFT}", 0, 0),  # the first counts
        (f"{LEFT}{RIGHT}", 1, 1),
        ("<box>(500,1000),(0,0)</box>", 0, 0),  # inverted
        ("<box>(0,0),(500", 0, 0),
        ("left", 0, 0),
    ],
)
def test_compares_the_first_box(generated: str, right: float, overlap: float) -> None:
    assert figures(generated, LEFT) == pytest.approx((right, overlap))


def test_half_is_enough() -> None:
    half = "<box>(0,0),(250,1000)</box>"
    assert figures(half, LEFT) == (1, 0.5)
    assert figures(half, LEFT, metric=BoxAccuracy(0.51)) == (0, 0.5)


def test_compares_several_boxes_in_order_and_counts_missing_ones() -> None:
    assert figures(f"{MOST} {RIGHT}", f"{LEFT} {RIGHT}") == pytest.approx((1, (5 / 6 + 1) / 2))
    assert figures(RIGHT + LEFT, LEFT + RIGHT) == (0, 0)
    assert figures(LEFT, LEFT + RIGHT) == (0.5, 0.5)


def test_of_several_answers_the_one_that_suits_best_counts() -> None:
    assert figures(LEFT, RIGHT, MOST) == pytest.approx((1, 5 / 6))


@pytest.mark.parametrize("form", [QwenBoxes(), PlainBoxes(), PlainBoxes(1)])
def test_a_thin_box_is_right_and_its_neighbour_is_not(form: BoxFormat) -> None:
    thin, beside = form.write((0.1001, 0, 0.1004, 1)), form.write((0.2, 0, 0.9, 1))
    assert figures(thin, thin, metric=BoxAccuracy(boxes=form)) == (1, 1)
    assert figures(beside, thin, metric=BoxAccuracy(boxes=form)) == (0, 0)
    nothing = form.write((0.1, 0, 0.1, 1))
    assert figures(nothing, nothing, metric=BoxAccuracy(boxes=form)) == (1, 1)


class Shikra:
    boxes = PlainBoxes()


def test_reads_boxes_as_the_model_writes_them_unless_told() -> None:
    metric = BoxAccuracy()
    metric.follow(Shikra())
    assert figures("[0,0,0.5,1]", "[0.0,0.0,0.5,1.0]", metric=metric) == (1, 1)
    told = BoxAccuracy(boxes=PlainBoxes())
    told.follow(object())
    assert figures("[0,0,0.5,1]", "[0.0,0.0,0.5,1.0]", metric=told) == (1, 1)
    metric = BoxAccuracy()
    metric.follow(object())
    assert figures(LEFT, LEFT, metric=metric) == (1, 1)


def test_refuses_an_answer_without_a_box() -> None:
    with pytest.raises(ValueError, match=r"must hold a box such as <box>\(0,0\),.* got 'red'"):
        figures(LEFT, "red")


@pytest.mark.parametrize("threshold", [0, 1.5])
def test_refuses_a_threshold_that_is_no_share(threshold: float | int) -> None:
    with pytest.raises(ValueError, match=f"at most 1, got {threshold}"):
        BoxAccuracy(threshold)
