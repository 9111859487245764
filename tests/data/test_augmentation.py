from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lit_vlm.data import RandomResizedCrop
from lit_vlm.data.augmentation import draw_crop, draw_seed


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    """A picture whose red tells the column and whose green tells the row."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.arange(width) * 6
    pixels[..., 1] = np.arange(height)[:, None] * 8
    return Image.fromarray(pixels)


def test_a_seed_gives_one_view_and_another_seed_another() -> None:
    crop = RandomResizedCrop(color_jitter=0.4)
    one, again, other = (crop.view(gradient(), (8, 10), seed) for seed in (5, 5, 6))
    assert one.shape == (3, 8, 10)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_whole_picture_is_resized_where_nothing_is_cut() -> None:
    crop = RandomResizedCrop(scale=(1.0, 1.0), ratio=(4 / 3, 4 / 3), flip=0)
    view = crop.view(gradient(), (30, 40), seed=0)
    assert torch.equal(view, torch.from_numpy(np.array(gradient())).permute(2, 0, 1))


def test_mirrors_left_to_right() -> None:
    crop = RandomResizedCrop(scale=(1.0, 1.0), ratio=(4 / 3, 4 / 3), flip=1)
    view = crop.view(gradient(), (30, 40), seed=0)
    assert torch.equal(view.flip(-1), torch.from_numpy(np.array(gradient())).permute(2, 0, 1))


def test_changes_colours_only_when_asked() -> None:
    grey = Image.new("RGB", (8, 8), (100, 100, 100))
    plain = [RandomResizedCrop().view(grey, (4, 4), seed) for seed in range(9)]
    assert all((view == 100).all() for view in plain)
    changed = [RandomResizedCrop(color_jitter=0.5).view(grey, (4, 4), seed) for seed in range(9)]
    assert len({int(view[0, 0, 0]) for view in changed}) > 5


def test_crops_have_the_areas_and_shapes_that_were_asked_for() -> None:
    random = np.random.default_rng(0)
    boxes = np.array([draw_crop((400, 300), (0.2, 0.5), (0.75, 4 / 3), random) for _ in range(500)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area = width * height / 120_000
    assert 0.19 < area.min() < 0.25
    assert 0.45 < area.max() < 0.51
    assert 0.74 < (width / height).min() < 0.8
    assert 1.25 < (width / height).max() < 1.35
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 400
    assert boxes[:, 3].max() <= 300


def test_a_picture_too_slim_for_any_crop_gives_its_middle() -> None:
    random = np.random.default_rng(0)
    assert draw_crop((1000, 10), (0.9, 1.0), (0.5, 2.0), random) == (490, 0, 510, 10)
    assert draw_crop((10, 1000), (0.9, 1.0), (0.5, 2.0), random) == (0, 490, 10, 510)


def test_seeds_differ_by_run_epoch_and_picture() -> None:
    seeds = {draw_seed(*numbers) for numbers in np.ndindex(4, 5, 6)}
    assert len(seeds) == 120


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (0.0, 1.0)}, r"scale must be two shares of the area.*got \(0.0, 1.0\)"),
        ({"scale": (0.5, 0.4)}, "the lesser first"),
        ({"ratio": (2.0, 1.0)}, "ratio must be two positive numbers"),
        ({"flip": 1.5}, "flip must be between 0 and 1, got 1.5"),
        ({"color_jitter": -1}, "color_jitter must be between 0 and 1, got -1"),
    ],
)
def test_refuses_what_is_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomResizedCrop(**options)
