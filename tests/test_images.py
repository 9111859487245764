import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lit_vlm.images import Resize, fit_image, picture_size, read_image


def _save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_reads_rgb_as_it_is(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = read_image(_save(Image.fromarray(values), tmp_path / "a.png"))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), values)
    assert np.array_equal(np.asarray(read_image(str(tmp_path / "a.png"))), values)
    assert np.array_equal(np.asarray(read_image(Image.fromarray(values))), values)


def test_transparency_is_over_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1), (200, 100, 0, 255))
    image.putpixel((1, 0), (200, 100, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 51))
    read = read_image(_save(image, tmp_path / "a.png"))
    # 51 / 255 = one fifth of black over four fifths of white
    assert [read.getpixel((x, 0)) for x in range(3)] == [
        (200, 100, 0),
        (255, 255, 255),
        (204, 204, 204),
    ]


def test_grey_with_transparency_is_over_white(tmp_path: Path) -> None:
    image = Image.new("LA", (2, 1), (90, 255))
    image.putpixel((1, 0), (90, 0))
    read = read_image(_save(image, tmp_path / "a.png"))
    assert [read.getpixel((x, 0)) for x in range(2)] == [(90, 90, 90), (255, 255, 255)]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_a_palettes_transparent_colour_is_white(tmp_path: Path, transparency: int | bytes) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    read = read_image(_save(image, tmp_path / "a.png", transparency=transparency))
    assert [read.getpixel((x, 0)) for x in range(2)] == [(10, 20, 30), (255, 255, 255)]


def test_reads_palettes_grey_and_bilevel_pictures(tmp_path: Path) -> None:
    palette = Image.new("P", (1, 1))
    palette.putpalette([10, 20, 30])
    assert read_image(_save(palette, tmp_path / "p.png")).getpixel((0, 0)) == (10, 20, 30)
    grey = _save(Image.new("L", (1, 1), 77), tmp_path / "l.png")
    assert read_image(grey).getpixel((0, 0)) == (77, 77, 77)
    white = _save(Image.new("1", (1, 1), 1), tmp_path / "1.png")
    assert read_image(white).getpixel((0, 0)) == (255, 255, 255)
    cyan = _save(Image.new("CMYK", (1, 1), (255, 0, 0, 0)), tmp_path / "c.tif")
    assert read_image(cyan).getpixel((0, 0)) == (0, 255, 255)


@pytest.mark.parametrize("largest", [65535, 200])
def test_16_bits_are_scaled_to_8_however_dark_the_picture(tmp_path: Path, largest: int) -> None:
    values = np.array([[0, largest // 2, largest]], dtype=np.uint16)
    read = read_image(_save(Image.fromarray(values), tmp_path / "a.png"))
    expected = (values / 257).round().astype(np.uint8)  # 65535 = 257 x 255
    assert np.array_equal(np.asarray(read)[:, :, 0], expected)
    assert read.getpixel((1, 0)) == (expected[0, 1],) * 3


def test_32_bit_pictures_with_8_bit_values_keep_them(tmp_path: Path) -> None:
    for mode in ("I", "F"):
        image = Image.new(mode, (1, 1), 200)
        assert read_image(_save(image, tmp_path / f"{mode}.tif")).getpixel((0, 0)) == (200,) * 3


# Where the first row's first pixel of the stored picture is to be seen, by EXIF orientation.
@pytest.mark.parametrize(
    ("orientation", "place"),
    [(1, (0, 0)), (2, (2, 0)), (3, (2, 1)), (4, (0, 1)), (5, (0, 0)), (6, (1, 0)), (8, (0, 2))],
)
def test_turns_a_picture_by_its_exif_tag(
    tmp_path: Path, orientation: int, place: tuple[int, int]
) -> None:
    image = Image.new("RGB", (3, 2), (0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = read_image(_save(image, tmp_path / "a.png", exif=exif))
    assert read.size == ((3, 2) if orientation < 5 else (2, 3))
    assert read.getpixel(place) == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(9))
def test_the_size_is_that_of_the_picture_as_it_is_read(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(Image.new("RGB", (3, 2)), tmp_path / "a.png", exif=exif)
    assert picture_size(path) == read_image(path).size
    with Image.open(path) as image:
        assert picture_size(image) == read_image(path).size


def test_a_size_needs_a_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"^the image .*a\.png cannot be read: "):
        picture_size(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"^there is no image .*/nowhere\.png$"):
        picture_size(tmp_path / "nowhere.png")


def test_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^there is no image .*/nowhere\.png$"):
        read_image(tmp_path / "nowhere.png")


def test_names_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^the image {tmp_path} cannot be read: "):
        read_image(tmp_path)


def _png() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + crc


HUGE = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 99999, 99999, 8, 2, 0, 0, 0))
BROKEN = {
    "empty": b"",
    "text": b"<html>404 Not Found</html>",
    "truncated": _png()[:2000],
    "wrong checksum": _png().replace(b"IDAT", b"IDAX", 1),
    "cut header": _png()[:20],
    "bomb": HUGE + _chunk(b"IDAT", zlib.compress(b"")),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_names_a_picture_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(BROKEN[kind])
    with pytest.raises(ValueError, match=r"^the image .*/broken\.png cannot be read: .+"):
        read_image(path)


def test_a_truncated_jpeg_is_not_filled_with_grey(tmp_path: Path) -> None:
    buffer = BytesIO()
    Image.effect_noise((64, 64), 80).save(buffer, "JPEG")
    path = tmp_path / "a.jpg"
    path.write_bytes(buffer.getvalue()[:1500])
    with pytest.raises(ValueError, match=r"a\.jpg cannot be read: .*truncated"):
        read_image(path)


def test_leaves_a_picture_of_the_right_size_alone() -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    for resize in ("stretch", "crop", "pad"):
        fitted = fit_image(Image.fromarray(values), (4, 6), resize, (9, 9, 9))
        assert np.array_equal(fitted.permute(1, 2, 0).numpy(), values)


@pytest.mark.parametrize(
    ("resize", "row"),
    [
        ("stretch", ["red", "red", "blue", "blue"]),
        ("crop", ["red", "red", "blue", "blue"]),
        ("pad", ["red", "red", "blue", "blue"]),
    ],
)
def test_brings_a_wide_picture_to_a_square(resize: Resize, row: list[str]) -> None:
    image = Image.new("RGB", (80, 40), "red")
    image.paste("blue", (40, 0, 80, 40))
    fitted = fit_image(image, (40, 40), resize, (1, 2, 3))
    assert fitted.shape == (3, 40, 40)
    middle = [tuple(fitted[:, 20, x].tolist()) for x in (2, 12, 27, 37)]
    colors = {"red": (255, 0, 0), "blue": (0, 0, 255)}
    assert middle == [colors[name] for name in row]
    border = tuple(fitted[:, 2, 2].tolist())
    assert border == ((1, 2, 3) if resize == "pad" else (255, 0, 0))


def test_cropping_cuts_the_sides_and_stretching_keeps_them() -> None:
    image = Image.new("RGB", (80, 40), "red")
    image.paste("blue", (0, 0, 16, 40))
    blue = {
        resize: int((fit_image(image, (40, 40), resize, (0, 0, 0))[2, 20] > 128).sum())
        for resize in ("stretch", "crop")
    }
    assert blue == {"stretch": 8, "crop": 0}
