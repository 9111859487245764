from pathlib import Path

import pytest
from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import PairsFile


def prepared(path: Path, text: str, **options: object) -> PairsFile:
    path.write_text(text)
    source = PairsFile(path, **options)  # type: ignore[arg-type]
    source.prepare()
    return source


def test_rows_of_one_image_are_one_picture(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), "red").save(tmp_path / "b.png")
    text = 'image,caption\nb.png,one\na.png,two\nb.png,"three, four"\n'
    source = prepared(tmp_path / "x.csv", text)
    assert len(source) == 2
    assert [source.captions(i) for i in range(2)] == [("one", "three, four"), ("two",)]
    assert source.picture(0).size == (4, 4)
    with pytest.raises(BadSampleError, match=r"there is no image .*a\.png\. Mend .*x\.csv:3 or im"):
        source.picture(1)


def test_a_file_may_be_written_in_several_ways(tmp_path: Path) -> None:
    text = "image,caption\nb.png,one\n./b.png,two\nx/../b.png,three\n"
    source = prepared(tmp_path / "x.csv", f"{text}{tmp_path / 'b.png'},four\nx/b.png,five\n")
    assert [source.captions(i) for i in range(2)] == [("one", "two", "three", "four"), ("five",)]
    assert source.name(0) == source.identity(0) == str(tmp_path / "b.png")


def test_json_lines_may_have_lists(tmp_path: Path) -> None:
    text = '{"image": "a.png", "caption": ["one", "two"]}\n{"image": "a.png", "caption": "three"}\n'
    source = prepared(tmp_path / "x.jsonl", text, image_root=tmp_path / "y")
    assert source.captions(0) == ("one", "two", "three")
    assert source.name(0) == str(tmp_path / "y" / "a.png")


def test_of_several_columns_some_may_be_empty(tmp_path: Path) -> None:
    text = "file\tc1\tc2\na\tone\t\nb\ttwo\tthree\n"
    options = {"image_column": "file", "caption_column": ["c1", "c2"]}
    source = prepared(tmp_path / "x.tsv", text, **options)
    assert [source.captions(i) for i in range(2)] == [("one",), ("two", "three")]
    with pytest.raises(BadSampleError, match=r"x\.tsv:2: must have a caption in c1 or c2, got non"):
        prepared(tmp_path / "x.tsv", "file\tc1\tc2\na\t\t\n", **options)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"image": "a", "caption": "  "}', r"x\.jsonl:1: caption must be a text, got '  '"),
        ('{"image": "a", "caption": ["b", 1]}', "caption must be a text, got 1"),
        ('{"image": "a", "caption": []}', "must have a caption in caption, got none"),
        ('{"image": null, "caption": "b"}', "image must be a file's name, got None"),
        ('{"image": "a", "text": "b"}', "lacks caption; there are: image, text"),
    ],
)
def test_says_what_is_wrong_and_where(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(BadSampleError, match=message):
        prepared(tmp_path / "x.jsonl", row + "\n")


def test_must_have_a_column_of_captions() -> None:
    with pytest.raises(ValueError, match="caption_column must name a column, got none"):
        PairsFile("x.csv", caption_column=[])
