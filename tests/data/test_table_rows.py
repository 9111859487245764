from pathlib import Path

import pytest

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.table_rows import table_rows

COLUMNS = ["image", "caption"]


def rows(path: Path, content: str | bytes) -> list[tuple[str, dict[str, object]]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(where.rpartition(":")[2], values) for where, values in table_rows(path, COLUMNS)]


def test_reads_csv_with_quotes_and_counts_lines(tmp_path: Path) -> None:
    text = '\ufeffcaption,image\n"a, b\nc",1.png\n\n"say ""hi""",2.png\n'
    assert rows(tmp_path / "x.csv", text) == [
        ("2", {"caption": "a, b\nc", "image": "1.png"}),
        ("5", {"caption": 'say "hi"', "image": "2.png"}),
    ]


def test_reads_tsv_and_json_lines(tmp_path: Path) -> None:
    assert rows(tmp_path / "x.TSV", "image\tcaption\n1.png\ta, b\n") == [
        ("2", {"image": "1.png", "caption": "a, b"})
    ]
    assert rows(tmp_path / "x.jsonl", '\n{"image": "1.png", "caption": ["a"], "more": 1}\n') == [
        ("2", {"image": "1.png", "caption": ["a"], "more": 1})
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "", r"x\.txt: must be one of \.csv, \.tsv, \.jsonl by its ending"),
        ("x.csv", "", "lacks image, caption; there are: none"),
        ("x.csv", "image,caption\n", "must hold at least one row, got none"),
        ("x.csv", "image,text\n1,2\n", "lacks caption; there are: image, text. Name others"),
        ("x.csv", "image,caption\n1,a\n2,a, b\n", r"x\.csv:3: must have 2 cells .*, got 3.*quotes"),
        ("x.tsv", 'image\tcaption\n1\t"a" b\n', r"x\.tsv:2: quotes must enclose a whole cell"),
        ("x.csv", b"image,caption\n1,\xff\n", "must be UTF-8, got the byte 0xff"),
        ("x.jsonl", '{"image": "1"}\n', r"x\.jsonl:1: must have .* lacks caption"),
        ("x.jsonl", '{"image": "1", "caption": "a"}\n{"ima', r"x\.jsonl:2: .* malformed at column"),
        ("x.jsonl", "[1]\n", r"x\.jsonl:1: each line must be a JSON object, got a list"),
        ("x.jsonl", "\n", "must hold at least one row"),
    ],
)
def test_says_what_is_wrong_and_where(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(BadSampleError, match=message):
        rows(tmp_path / name, content)


def test_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"got .*none\.csv, which does not exist"):
        list(table_rows(tmp_path / "none.csv", COLUMNS))
