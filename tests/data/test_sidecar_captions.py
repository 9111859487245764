from pathlib import Path

import pytest
from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import SidecarCaptions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures in two folders, with three captions."""
    (tmp_path / "deep").mkdir()
    for name, text in (("deep/fox.png", "a fox\n\n un renard \r\n"), ("ape.png", "an ape")):
        Image.new("RGB", (4, 4), "red").save(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_bytes(text.encode())
    return tmp_path


def test_each_line_is_a_caption(folder: Path) -> None:
    source = SidecarCaptions(folder)
    source.prepare()
    assert [Path(source.name(i)).name for i in range(len(source))] == ["ape.png", "fox.png"]
    assert [source.captions(i) for i in range(2)] == [("an ape",), ("a fox", "un renard")]
    assert source.picture(1).size == (4, 4)
    first = SidecarCaptions(folder, max_captions=1)
    first.prepare()
    assert first.captions(1) == ("a fox",)


def test_says_what_it_leaves_out(folder: Path) -> None:
    (folder / "fox.ogg").write_text("x")
    (folder / "notes.txt").write_text("x")
    with pytest.warns(UserWarning, match=r"2 files in .* are neither pictures.*fox\.ogg"):
        SidecarCaptions(folder).prepare()


def test_names_what_is_missing(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="folder must be a folder, got .*none"):
        SidecarCaptions(folder / "none").prepare()
    (folder / "ape.txt").write_bytes(b"\xff")
    with pytest.raises(BadSampleError, match=r"ape\.txt: must be UTF-8, got the byte 0xff"):
        SidecarCaptions(folder).prepare()
    (folder / "ape.txt").write_text(" \n")
    with pytest.raises(BadSampleError, match=r"ape\.txt: must hold a caption, got an empty text"):
        SidecarCaptions(folder).prepare()
    (folder / "ape.txt").unlink()
    with pytest.raises(BadSampleError, match=r"none for 1 of 2 .*ape\.png\. Write ape\.txt, or mo"):
        SidecarCaptions(folder).prepare()
    (folder / "empty").mkdir()
    with pytest.raises(BadSampleError, match="folder must hold pictures, got none in .*empty"):
        SidecarCaptions(folder / "empty").prepare()
    with pytest.raises(ValueError, match="max_captions must be at least 1 or null, got 0"):
        SidecarCaptions(folder, max_captions=0)
