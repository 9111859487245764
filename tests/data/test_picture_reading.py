from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import ImageFolder, RandomResizedCrop
from lit_vlm.data.joined_pictures import JoinedPictures
from lit_vlm.data.picture_reading import PictureFormat, PictureReader

Numbered = Callable[..., Path]


def pictures(root: Path, bad: list[int], skip: bool = True) -> JoinedPictures[ImageFolder]:
    for number in bad:
        next(root.glob(f"*/{number:02}.png")).write_bytes(b"x")
    source = ImageFolder(root / "", on_bad_image="skip" if skip else "error", classes=["a", "b"])
    source.prepare()
    return JoinedPictures([source])


def read(reader: PictureReader, indices: list[int]) -> tuple[list[int], list[int], list[int]]:
    def red(index: int) -> int:
        value = reader.pictures.picture(index).getpixel((0, 0))
        return value[0] // 10 if isinstance(value, tuple) else -1

    places, found, skipped = reader.read(indices, red)
    return places, found, [picture.index for picture in skipped]


def test_the_next_good_picture_stands_in_under_its_own_place(numbered: Numbered) -> None:
    reader = PictureReader(pictures(numbered(6), bad=[2, 5]))  # places 1 and 5 of 0 2 4 1 3 5
    assert read(reader, [0, 1, 5]) == ([0, 2, 0], [0, 4, 0], [1, 5])


def test_in_its_place_there_may_be_nothing(numbered: Numbered) -> None:
    reader = PictureReader(pictures(numbered(6), bad=[2, 5]), leaves_out=True)
    assert read(reader, [0, 1, 2]) == ([0, 2], [0, 4], [1])


def test_pictures_known_to_be_bad_have_the_same_stand_ins_untried(numbered: Numbered) -> None:
    reader = PictureReader(pictures(numbered(6), bad=[]), known_bad=[1, 5])
    assert read(reader, [0, 1, 5]) == ([0, 2, 0], [0, 4, 0], [])


def test_stops_where_a_source_says_so(numbered: Numbered) -> None:
    reader = PictureReader(pictures(numbered(2), bad=[1], skip=False))
    with pytest.raises(BadSampleError, match=r"01\.png cannot be read"):
        read(reader, [0, 1])


def test_stops_where_no_picture_is_good(numbered: Numbered) -> None:
    reader = PictureReader(pictures(numbered(2), bad=[0, 1]))
    with pytest.raises(
        BadSampleError, match=r"none of 2 pictures can be read; the last: .*01\.png"
    ):
        read(reader, [0])


def test_views_depend_on_seed_epoch_and_place() -> None:
    picture = Image.linear_gradient("L").convert("RGB")
    views = {
        PictureFormat((4, 4), "pad", (0, 0, 0), RandomResizedCrop(), seed)
        .pixels(picture, epoch, index)
        .numpy()
        .tobytes()
        for seed in range(2)
        for epoch in range(2)
        for index in range(2)
    }
    assert len(views) == 8
    plain = PictureFormat((4, 8), "pad", (9, 9, 9))
    assert plain.pixels(picture, 0, 0)[:, 0, 0].tolist() == [9, 9, 9]
