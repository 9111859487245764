from pathlib import Path

import pytest
from PIL import Image

from lit_vlm.linting.pictures import look_at, look_at_all


def test_tells_pictures_by_their_pixels_and_not_by_their_files(tmp_path: Path) -> None:
    picture = Image.effect_noise((20, 12), 50).convert("RGB")
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.bmp")
    picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(tmp_path / "c.png")
    a, b, c = (look_at(str(tmp_path / name)) for name in ("a.png", "b.bmp", "c.png"))
    assert a.size == b.size == (20, 12)
    assert a.digest == b.digest != c.digest
    assert a.finding is None


def test_tells_pictures_of_one_colour_by_their_shape(tmp_path: Path) -> None:
    for size in ((12, 20), (20, 12)):
        Image.new("RGB", size).save(tmp_path / f"{size[0]}.png")
    assert look_at(str(tmp_path / "12.png")).digest != look_at(str(tmp_path / "20.png")).digest


def test_decodes_a_picture_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-300])
    with Image.open(path) as head:
        assert head.size == (64, 64)
    found = look_at(str(path))
    assert found.finding is not None
    assert found.finding.kind == "corrupt_image"
    assert (found.size, found.digest) == ((0, 0), b"")


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.png", "is no file"), ("", "is no file"), ("https:/a.b/c.png", "is a URL; download it")],
)
def test_names_what_is_missing(tmp_path: Path, name: str, message: str) -> None:
    found = look_at(str(tmp_path / name)).finding
    assert found is not None
    assert found.kind == "missing_image"
    assert message in found.message


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((9, 20), "at least 10 pixels a side, got 9 x 20"),
        ((121, 12), "at most 10 times as long as wide, got 121 x 12"),
        ((40, 51), "at most 2,000 pixels, got 40 x 51"),
    ],
)
def test_warns_of_extreme_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], message: str
) -> None:
    monkeypatch.setattr("lit_vlm.linting.pictures._MOST_PIXELS", 2_000)
    Image.new("RGB", size).save(tmp_path / "a.png")
    found = look_at(str(tmp_path / "a.png")).finding
    assert found is not None
    assert found.kind == "extreme_image"
    assert message in found.message


@pytest.mark.parametrize("size", [(10, 100), (40, 50), (10, 10)])
def test_does_not_warn_of_shapes_at_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr("lit_vlm.linting.pictures._MOST_PIXELS", 2_000)
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert look_at(str(tmp_path / "a.png")).finding is None


def test_looks_at_all_in_order_on_several_threads(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(5)]
    for i, path in enumerate(paths):
        Image.new("RGB", (10 + i, 10)).save(path)
    found = list(look_at_all(paths, num_workers=3))
    assert [path for path, _ in found] == paths
    assert [picture.size for _, picture in found] == [(10 + i, 10) for i in range(5)]
