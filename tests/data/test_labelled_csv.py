from pathlib import Path

import pytest
from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import LabelledCSV


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three rows, the last without a picture."""
    for name in ("1.png", "2.png"):
        Image.new("RGB", (4, 4), "red").save(tmp_path / name)
    path = tmp_path / "x.csv"
    path.write_text("image,label,more\n1.png,dog,x\n 2.png,cat ,y\nnone.png,dog,z\n")
    return path


def test_reads_files_and_classes(table: Path) -> None:
    source = LabelledCSV(table)
    source.prepare()
    assert source.classes == ("cat", "dog")
    assert [source.label(i) for i in range(len(source))] == [1, 0, 1]
    assert source.picture(1).size == (4, 4)
    assert source.name(0) == str(table.parent / "1.png")


def test_other_columns_and_another_root(tmp_path: Path, table: Path) -> None:
    path = tmp_path / "sub" / "y.tsv"
    path.parent.mkdir()
    path.write_text("file\tkind\n1.png\t10\n2.png\t9\n")
    source = LabelledCSV(path, tmp_path, image_column="file", label_column="kind")
    source.prepare()
    assert source.classes == ("9", "10")
    assert source.picture(0).size == (4, 4)


def test_json_lines_may_have_numbers_for_labels(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"image": "1.png", "label": 7}\n')
    source = LabelledCSV(path)
    source.prepare()
    assert source.classes == ("7",)


def test_a_missing_picture_is_named_with_its_row(table: Path) -> None:
    source = LabelledCSV(table)
    source.prepare()
    with pytest.raises(
        BadSampleError, match=r"there is no image .*none\.png\. Mend .*x\.csv:4 or image_root, or"
    ):
        source.picture(2)


def test_names_a_label_that_is_none_of_the_classes(table: Path) -> None:
    with pytest.raises(BadSampleError, match=r"x\.csv:3: label must be one of classes .*'cat'"):
        LabelledCSV(table, classes=["dog", "fox"]).prepare()


def test_names_a_cell_without_text(table: Path) -> None:
    table.write_text("image,label\n1.png,\n")
    with pytest.raises(BadSampleError, match=r"x\.csv:2: label must be a text, got ''"):
        LabelledCSV(table).prepare()


def test_lists_the_columns_that_there_are(table: Path) -> None:
    with pytest.raises(BadSampleError, match="lacks kind; there are: image, label, more"):
        LabelledCSV(table, label_column="kind").prepare()
