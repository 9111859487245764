import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from torchvision.transforms import functional

from lit_vlm.data.color_jitter import jitter_colors, shift_hue


@pytest.fixture
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.25])
def test_the_hue_is_turned_as_torchvision_does(picture: Image.Image, turn: float) -> None:
    theirs = np.asarray(functional.adjust_hue(picture, turn).convert("HSV"), dtype=int)
    ours = np.asarray(shift_hue(picture, turn).convert("HSV"), dtype=int)
    turned = (theirs[..., 0] - ours[..., 0] + 128) % 256 - 128
    colored = theirs[..., 1] > 50
    assert abs(turned[colored]).max() <= 4  # it cuts fractions of a 256th off, we round


@pytest.mark.parametrize(
    ("place", "adjust"),
    [
        (0, functional.adjust_brightness),
        (1, functional.adjust_contrast),
        (2, functional.adjust_saturation),
    ],
)
def test_the_others_are_torchvisions(picture: Image.Image, place: int, adjust: object) -> None:
    strength = [0.0] * 4
    strength[place] = 0.4
    changed = jitter_colors(picture, tuple(strength), np.random.default_rng(1))  # type: ignore[arg-type]
    random = np.random.default_rng(1)
    random.permutation(4)
    assert callable(adjust)
    expected = adjust(picture, random.uniform(0.6, 1.4))
    assert_allclose(np.asarray(changed), np.asarray(expected))


def test_no_strength_changes_nothing(picture: Image.Image) -> None:
    same = jitter_colors(picture, (0.0, 0.0, 0.0, 0.0), np.random.default_rng(0))
    assert same.tobytes() == picture.tobytes()
