"""Where boxes are seen is asked of the pixels: a rectangle is drawn, and looked for."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from lit_vlm.conversation import Box
from lit_vlm.images import Resize, fit_image
from lit_vlm.views import View

RESIZES: list[Resize] = ["stretch", "crop", "pad"]
SIDE = st.integers(20, 160)
SHARES = st.tuples(*[st.floats(0, 1)] * 4)


def _drawn(picture: tuple[int, int], box: Box) -> Image.Image:
    image = Image.new("RGB", picture, "black")
    left, top, right, bottom = box
    ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill="white")
    return image


def _found(image: Image.Image, size: tuple[int, int], resize: Resize) -> Box | None:
    """Return the white rectangle that is seen, in whole pixels; None if it is hardly white."""
    pixels = fit_image(image, size, resize, (0, 0, 0))[0].numpy() / 255
    if pixels.max() < 0.75:
        return None
    bright = pixels > 0.5
    rows, columns = (np.flatnonzero(bright.any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@given(
    picture=st.tuples(SIDE, SIDE),
    size=st.tuples(st.integers(16, 80), st.integers(16, 80)),
    resize=st.sampled_from(RESIZES),
    shares=SHARES,
)
@settings(deadline=None, max_examples=150)
def test_a_box_is_seen_where_the_rectangle_is(
    picture: tuple[int, int],
    size: tuple[int, int],
    resize: Resize,
    shares: tuple[float, float, float, float],
) -> None:
    (x1, x2), (y1, y2) = sorted(shares[::2]), sorted(shares[1::2])
    width, height = picture
    box = (int(x1 * width), int(y1 * height), round(x2 * width), round(y2 * height))
    assume(box[0] < box[2] and box[1] < box[3])
    found = _found(_drawn(picture, box), size, resize)
    seen = View.of(picture, size, resize).seen(box)
    pixels = [share * side for share, side in zip(seen, (size[1], size[0]) * 2, strict=True)]
    if found is None:  # less than about a pixel, or cut off
        assert min(pixels[2] - pixels[0], pixels[3] - pixels[1]) < 2
        return
    for there, expected in zip(found, pixels, strict=True):
        assert abs(there - expected) <= 1


@given(
    picture=st.tuples(SIDE, SIDE),
    size=st.tuples(SIDE, SIDE),
    resize=st.sampled_from(RESIZES),
    shares=SHARES,
)
@settings(deadline=None, max_examples=150)
def test_what_is_seen_whole_is_found_again_in_the_stored_pixels(
    picture: tuple[int, int],
    size: tuple[int, int],
    resize: Resize,
    shares: tuple[float, float, float, float],
) -> None:
    (x1, x2), (y1, y2) = sorted(shares[::2]), sorted(shares[1::2])
    view = View.of(picture, size, resize)
    seen_of_picture = view.stored((0, 0, 1, 1))
    left, top, right, bottom = seen_of_picture
    box = (
        left + x1 * (right - left),
        top + y1 * (bottom - top),
        left + x2 * (right - left),
        top + y2 * (bottom - top),
    )
    for before, after in zip(box, view.stored(view.seen(box)), strict=True):
        assert abs(before - after) < 1e-6 * max(picture)


@pytest.mark.parametrize(
    ("resize", "seen"),
    [
        # of 80 x 40 pixels at 20 x 20
        ("stretch", (0.25, 0.5, 0.5, 1.0)),
        ("crop", (0.0, 0.5, 0.5, 1.0)),
        ("pad", (0.25, 0.5, 0.5, 0.75)),
    ],
)
def test_a_wide_picture_by_hand(resize: Resize, seen: tuple[float, float, float, float]) -> None:
    view = View.of((80, 40), (20, 20), resize)
    assert view.seen((20, 20, 40, 40)) == seen
    assert view.stored(seen) == (20, 20, 40, 40)


def test_padding_is_no_part_of_the_picture() -> None:
    assert View.of((80, 40), (20, 20), "pad").stored((0.0, 0.0, 1.0, 0.5)) == (0, 0, 80, 20)
    assert View.of((80, 40), (20, 20), "pad").stored((0.0, 0.0, 1.0, 0.2)) == (0, 0, 80, 0)


def test_padding_is_rounded_as_the_pictures_is() -> None:
    # 30 x 20 at 15 x 15: 15 x 10 pixels, 5 of padding; 2.5 is rounded to 2.
    assert View.of((30, 20), (15, 15), "pad").shift == (0.0, 2.0)
    pixels = fit_image(Image.new("RGB", (30, 20), "white"), (15, 15), "pad", (0, 0, 0))
    assert int(pixels[0, :, 7].argmax()) == 2


def test_a_picture_of_the_right_size_is_seen_as_it_is() -> None:
    for resize in RESIZES:
        view = View.of((48, 32), (32, 48), resize)
        assert view.scale == (1.0, 1.0)
        assert view.shift == (0.0, 0.0)
