from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lit_vlm.data.easy_vqa_facts import COLORS, SHAPES, Facts, _deduce, picture_facts

_RGB = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "brown": (165, 42, 42),
    "gray": (128, 128, 128),
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
}


@pytest.mark.parametrize(
    ("question", "answer", "color", "shape"),
    [
        ("what color is the triangle?", "blue", "blue", "triangle"),
        ("what is the color of the shape?", "red", "red", None),
        ("what is the teal shape?", "circle", "teal", "circle"),
        ("what shape is present?", "circle", None, "circle"),
        ("is there a red shape?", "yes", "red", None),
        ("is there a red shape?", "no", None, None),
        ("does the image not contain a circle?", "no", None, "circle"),
        ("is no gray shape present?", "no", "gray", None),
        ("is there not a gray shape?", "yes", None, None),
    ],
)
def test_what_one_question_tells(
    question: str, answer: str, color: str | None, shape: str | None
) -> None:
    assert _deduce([(question, answer)], COLORS) == color
    assert _deduce([(question, answer)], SHAPES) == shape


def test_what_is_left_when_all_others_are_denied_is_there() -> None:
    denied = [("is a circle present?", "no"), ("is there not a triangle?", "yes")]
    assert _deduce(denied, SHAPES) == "rectangle"


@pytest.fixture(scope="module")
def facts() -> list[Facts]:
    """What is told of the test pictures."""
    return picture_facts("test")


def test_most_pictures_are_known_whole(facts: list[Facts]) -> None:
    known = Counter((fact.color is not None, fact.shape is not None) for fact in facts)
    assert known == {
        (True, True): 888,
        (False, True): 66,
        (True, False): 34,
        (False, False): 12,
    }


def test_the_pictures_have_the_colours_and_shapes_that_are_told(facts: list[Facts]) -> None:
    seen: Counter[str] = Counter()
    for fact in [fact for fact in facts if fact.color and fact.shape][:200]:
        with Image.open(fact.path) as picture:
            pixels = np.array(picture.convert("RGB"))
        colors = Counter(map(tuple, pixels.reshape(-1, 3).tolist()))
        _, (color, area) = colors.most_common(2)  # the background is the most common
        assert color == _RGB[fact.color or ""], fact
        if area > 100:  # of a smaller one the edges, in other colours, are too great a part
            assert _shape((pixels == color).all(-1)) == fact.shape, fact
            seen[fact.shape or ""] += 1
    assert min(seen.values()) > 20


def _shape(inside: NDArray[np.bool_]) -> str:
    """Tell a shape by how much of the box around it is filled: 1, pi / 4 or 1 / 2."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    filled = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean()
    return "triangle" if filled < 0.62 else "circle" if filled < 0.9 else "rectangle"
