import io
import json
import sys

import pytest
from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.shard_samples import SampleForm, decode_picture, import_webdataset, sample_form

FORM = SampleForm(("jpg", "png"), ("txt", "json"), "caption")


def test_takes_the_first_ending_that_a_sample_has() -> None:
    assert FORM.members(["json", "txt", "png", "jpg", "cls"]) == ("jpg", "txt")
    assert FORM.members(["json", "png"]) == ("png", "json")


@pytest.mark.parametrize(
    ("endings", "message"),
    [
        (["jpg", "cls"], r"must have captions \(.txt, .json\), got .cls, .jpg only."),
        (["txt"], r"must have a picture \(.jpg, .png\), got .txt only."),
    ],
)
def test_says_what_a_sample_lacks(endings: list[str], message: str) -> None:
    with pytest.raises(LookupError, match=message):
        FORM.members(endings)


@pytest.mark.parametrize(
    ("ending", "content", "captions"),
    [
        ("txt", " a cat \n\n the cat\r\n", ("a cat", "the cat")),
        ("txt", "\ufeffbär", ("bär",)),
        ("json", json.dumps({"caption": "one\nof two lines", "url": 1}), ("one\nof two lines",)),
        ("json", json.dumps({"caption": ["a", " b "]}), ("a", "b")),
        ("json", json.dumps(["a", "b"]), ("a", "b")),
        ("json", json.dumps("a"), ("a",)),
    ],
)
def test_reads_one_caption_or_several(ending: str, content: str, captions: tuple[str, ...]) -> None:
    assert FORM.read_captions(ending, content.encode(), "here") == captions


@pytest.mark.parametrize(
    ("ending", "content", "message"),
    [
        ("txt", b" \n ", "here: .txt must hold a caption, got none."),
        ("txt", b"\xff", "here: .txt cannot be read: 'utf-8' codec"),
        ("json", b"{", "here: .json cannot be read: Expecting property name"),
        ("json", b'{"text": "a"}', "here: .json must have the key 'caption', got 'text'. Name"),
        ("json", b'{"caption": [1]}', r"here: .json must hold a caption or a list .* got \[1\]"),
        ("json", b"[]", "here: .json must hold a caption, got none."),
    ],
)
def test_names_the_sample_whose_caption_cannot_be_used(
    ending: str, content: bytes, message: str
) -> None:
    with pytest.raises(BadSampleError, match=message):
        FORM.read_captions(ending, content, "here")


def test_brings_endings_to_one_form() -> None:
    form = sample_form("Source", [".JPG"], ["en.txt"], "text")
    assert form == SampleForm(("jpg",), ("en.txt",), "text")


@pytest.mark.parametrize(
    ("pictures", "captions", "message"),
    [
        ([], ["txt"], "image_endings and caption_endings must name an ending each, got none"),
        (["jpg"], ["pkl"], "caption_endings must end in one of txt, .*, jsn, got 'pkl'"),
    ],
)
def test_refuses_endings_that_cannot_be_read(
    pictures: list[str], captions: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=f"Source: {message}"):
        sample_form("Source", pictures, captions, "caption")


def test_reads_a_transparent_picture_over_white() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(file, "PNG")
    assert decode_picture(file.getvalue(), "here").getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(BadSampleError, match="here: the picture cannot be read: .* Mend or"):
        decode_picture(file.getvalue()[:-30], "here")


def test_says_how_to_install_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ImportError, match=r'pip install "lit-vlm\[webdataset\]"'):
        import_webdataset()
