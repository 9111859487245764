import json
from pathlib import Path

import pytest

from lit_vlm.data import JSONConversations
from lit_vlm.linting.reading import read_records


def read(tmp_path: Path, content: str | bytes) -> list[tuple[int, int, object, str]]:
    path = tmp_path / "data.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    reads = read_records(path)
    return [(r.line, r.place, r.record, r.broken.message if r.broken else "") for r in reads]


def test_goes_on_behind_broken_lines(tmp_path: Path) -> None:
    lines = [b"{}", b"{broken", b"", b"{}", b"\xff{}", b"[1", b"{}", b"9" * 5000]
    found = read(tmp_path, b"\n".join(lines))
    assert [(line, place) for line, place, record, _ in found if record == {}] == [
        (1, 0),
        (4, 1),
        (7, 2),
    ]
    assert [(line, record) for line, _, record, broken in found if broken] == [
        (2, None),
        (5, None),
        (6, None),
        (8, None),
    ]
    assert "must be UTF-8, got the byte 0xff at byte 0" in found[3][3]
    assert "at character 2 of line 2 of the file)" in found[1][3]
    assert "line 1" not in found[4][3]


def test_reads_a_list_up_to_where_it_breaks_off(tmp_path: Path) -> None:
    [first, second, broken] = read(tmp_path, '\ufeff[\n{"a": 1},\n{"a": 2},\n{"a": }]')
    assert (first[:3], second[:3]) == ((2, 0, {"a": 1}), (3, 1, {"a": 2}))
    assert (broken[0], broken[2]) == (4, None)
    assert "breaks off here" in broken[3]
    assert broken[3].endswith("the rest was not read")


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("[{}\n{}]", 2, "neither a comma nor a closing bracket follows"),
        ("[{},\n", 2, "breaks off here"),
        ("[{}]\n[{}]", 2, "nothing must follow the list, got '[{}]'"),
        (b'["\xff"]', 1, "must be UTF-8"),
    ],
)
def test_says_what_is_wrong_with_a_list(
    tmp_path: Path, content: str | bytes, line: int, message: str
) -> None:
    found = read(tmp_path, content)[-1]
    assert (found[0], found[2]) == (line, None)
    assert message in found[3]


@pytest.mark.parametrize("form", ["[{}, {}]", "{}\n\n{}\n", "[]", "", "\n"])
def test_reads_nothing_else_than_the_data_source(tmp_path: Path, form: str) -> None:
    turns = [{"role": "user", "content": "?"}]
    content = form.replace("{}", json.dumps({"messages": turns}))
    found = read(tmp_path, content)
    if not found:
        return
    source = JSONConversations(tmp_path / "data.json")
    source.prepare()
    assert len(source) == len(found)
    assert [source[i].where.rpartition(":")[2] for i in range(len(source))] == [
        str(line) for line, *_ in found
    ]


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="must be a JSON or JSON Lines file, got one that"):
        list(read_records(tmp_path / "none.jsonl"))
