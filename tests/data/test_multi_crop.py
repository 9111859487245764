from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lit_vlm.data import MultiCrop

PLAIN: dict[str, Any] = {
    "flip": 0,
    "jitter_share": 0,
    "gray": 0,
    "blur": (0.0, 0.0, 0.0),
    "solarize": 0,
}


@pytest.fixture
def picture() -> Image.Image:
    """Its red says the row, its green the column."""
    rows, columns = np.mgrid[0:100, 0:200]
    return Image.fromarray(np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8))


def seen(crop: torch.Tensor) -> float:
    """Return the share of the picture that a plain crop shows."""
    spans = [float(crop[c].max()) - float(crop[c].min()) for c in (0, 1)]
    return spans[0] * spans[1] / (100 * 200)


def test_crops_show_shares_of_the_picture_within_their_ranges(picture: Image.Image) -> None:
    views = MultiCrop(num_local=4, local_size=32, **PLAIN)
    for seed in range(20):
        large, small = views.crops(picture, (64, 48), seed)
        assert (large.shape, small.shape) == ((2, 3, 64, 48), (4, 3, 32, 32))
        assert all(0.25 < seen(crop) <= 1 for crop in large)
        assert all(0.02 < seen(crop) < 0.36 for crop in small)


def test_all_depends_on_the_seed_alone(picture: Image.Image) -> None:
    views = MultiCrop(local_size=16)
    torch.manual_seed(0)
    first = views.crops(picture, (32, 32), seed=5)
    torch.manual_seed(1)
    again, other = views.crops(picture, (32, 32), seed=5), views.crops(picture, (32, 32), seed=6)
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))


def test_no_two_crops_are_alike(picture: Image.Image) -> None:
    large, small = MultiCrop(local_size=16, num_local=5).crops(picture, (16, 16), seed=0)
    assert len({crop.numpy().tobytes() for crop in torch.cat([large, small])}) == 7


def test_the_shares_are_of_crops(picture: Image.Image) -> None:
    off = {"num_local": 1, "local_size": 16, **PLAIN}
    plain = MultiCrop(**off)
    gray = MultiCrop(**{**off, "gray": 0.5})
    grays = 0
    for seed in range(40):
        for crop in torch.cat(gray.crops(picture, (16, 16), seed)):
            grays += bool((crop[0] == crop[2]).all())
    assert 40 < grays < 80  # of 120
    always = MultiCrop(**{**off, "flip": 1})
    mirrored, upright = always.crops(picture, (16, 16), 0), plain.crops(picture, (16, 16), 0)
    assert all(torch.equal(a.flip(-1), b) for a, b in zip(mirrored, upright, strict=True))


def test_blur_is_set_for_each_kind_of_crop_and_only_the_second_global_one_is_solarised() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    off = {"num_local": 2, "local_size": 16, **PLAIN, "blur_radius": (1.0, 1.0)}
    plain = torch.cat(MultiCrop(**off).crops(picture, (16, 16), 0))
    for place, blur in enumerate([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]):
        blurred = torch.cat(MultiCrop(**{**off, "blur": blur}).crops(picture, (16, 16), 0))
        changed = [not torch.equal(a, b) for a, b in zip(plain, blurred, strict=True)]
        assert changed == [place == 0, place == 1, place == 2, place == 2]
    bright = Image.new("RGB", (20, 20), (200, 100, 250))
    solar, _ = MultiCrop(**{**off, "solarize": 1}).crops(bright, (16, 16), 0)
    assert solar[:, :, 0, 0].tolist() == [[200, 100, 250], [55, 100, 5]]


def test_without_local_crops_there_are_none(picture: Image.Image) -> None:
    _, small = MultiCrop(num_local=0).crops(picture, (28, 28), 0)
    assert small.shape == (0, 3, 12, 12)


@pytest.mark.parametrize(
    ("side", "patch", "expected"),
    [(224, 16, 96), (224, 14, 98), (32, 8, 16), (64, 8, 24), (8, 8, 8)],
)
def test_local_crops_are_by_default_three_sevenths_in_whole_patches(
    side: int, patch: int, expected: int
) -> None:
    assert MultiCrop().local_side((side, side), patch) == expected
    assert MultiCrop(local_size=10).local_side((side, side), patch) == 10


def test_its_record_is_plain() -> None:
    record = MultiCrop(num_local=3).with_local_size(16).init_config
    assert record["class_path"] == "lit_vlm.data.multi_crop.MultiCrop"
    assert record["init_args"]["num_local"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_scale": (0.5, 0.2)}, "global_scale must be two positive numbers in order"),
        ({"local_scale": (0.5, 1.5)}, "local_scale .* at most 1, got 0.5 and 1.5"),
        ({"flip": 1.5}, "flip must be between 0 and 1, got 1.5"),
        ({"blur": (0.0, 0.0, 2.0)}, "blur must be between 0 and 1, got 2.0"),
        ({"num_local": -1}, "num_local must be at least 0"),
    ],
)
def test_refuses_what_is_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiCrop(**options)
