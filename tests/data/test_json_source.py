import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import JSONConversations
from lit_vlm.data.sources import image_key

WORDS = ["red", "größe", "赤い丸", "🙂🙃", 'with "quotes" and \\', "two\nlines", "a\u2028b", "</s>"]


def _records() -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for i, word in enumerate(WORDS):
        turns = [{"from": "human", "value": f"{word}?"}, {"from": "gpt", "value": word}]
        records.append({"id": f"s-{i}", "conversations": turns})
    records[2]["image"] = "bilder/ä.png"
    records[2]["conversations"][0]["value"] = "<image>was?"
    return records


def _source(path: Path, **options: Any) -> JSONConversations:
    source = JSONConversations(path, **options)
    source.prepare()
    return source


def _write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


RECORDS = _records()
LINES = [json.dumps(record, ensure_ascii=False) for record in RECORDS]
LAYOUTS: dict[str, str] = {
    "plain.jsonl": "\n".join(LINES),
    "final-newline.jsonl": "\n".join(LINES) + "\n",
    "crlf.jsonl": "\r\n".join(LINES) + "\r\n",
    "blank-lines.jsonl": "\n\n  \n" + "\n \t\n\n".join(LINES) + "\n\n",
    "bom.jsonl": "\ufeff" + "\n".join(LINES),
    "escaped.jsonl": "\n".join(json.dumps(record) for record in RECORDS),
    "one-line.json": json.dumps(RECORDS, ensure_ascii=False),
    "escaped.json": json.dumps(RECORDS),
    "indented.json": json.dumps(RECORDS, ensure_ascii=False, indent=4),
    "crlf.json": json.dumps(RECORDS, ensure_ascii=False, indent=1).replace("\n", "\r\n"),
    "bom.json": "\ufeff\n " + json.dumps(RECORDS, ensure_ascii=False) + "\n",
    "list-of-lines.json": "[\n" + ",\n".join(LINES) + "\n]\n",
    "trailing-comma.json": "[" + ",".join(LINES) + ",]",
    "compact.json": json.dumps(RECORDS, ensure_ascii=False, separators=(",", ":")),
    "list-in.jsonl": json.dumps(RECORDS),
    "lines-in.json": "\n".join(LINES),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_reads_the_same_dialogues_in_every_layout(tmp_path: Path, name: str) -> None:
    source = _source(_write(tmp_path / name, LAYOUTS[name]))
    assert len(source) == len(RECORDS)
    for i in reversed(range(len(RECORDS))):
        dialogue = source[i]
        assert dialogue.id == f"s-{i}"
        assert dialogue.turns[1].text == WORDS[i]
    (picture,) = source[2].images
    assert picture.source == str(tmp_path / "bilder/ä.png")
    assert source.image_keys(2) == (image_key(tmp_path / "bilder/ä.png"),)
    assert source.image_keys(1) == source.image_keys(3) == ()


def test_messages_and_conversations_are_equal(tmp_path: Path) -> None:
    as_messages = [
        {
            "id": record["id"],
            "messages": [
                {"role": "user", "content": record["conversations"][0]["value"]},
                {"role": "assistant", "content": record["conversations"][1]["value"]},
            ],
            "images": [record["image"]] if "image" in record else [],
        }
        for record in RECORDS
    ]
    one = _source(_write(tmp_path / "a.json", json.dumps(RECORDS)))
    other = _source(_write(tmp_path / "b.json", json.dumps(as_messages)))
    assert [one[i] for i in range(len(one))] == [other[i] for i in range(len(other))]
    assert [one.image_keys(i) for i in range(len(one))] == [
        other.image_keys(i) for i in range(len(other))
    ]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("plain.jsonl", [1, 2, 3]),
        ("blank-lines.jsonl", [4, 7, 10]),
        ("list-of-lines.json", [2, 3, 4]),
        ("one-line.json", [1, 1, 1]),
        ("crlf.jsonl", [1, 2, 3]),
    ],
)
def test_a_samples_place_is_its_line(tmp_path: Path, name: str, lines: list[int]) -> None:
    path = _write(tmp_path / name, LAYOUTS[name])
    source = _source(path)
    assert [source[i].where for i in range(3)] == [f"{path}:{line}" for line in lines]


def test_a_sample_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", LAYOUTS["plain.jsonl"])
    source = _source(path)
    path.write_bytes(path.read_bytes().replace(b"red", b"tan"))
    assert source[0].turns[1].text == "tan"


def test_worker_processes_do_not_get_the_list(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "why? " * 400}, {"from": "gpt", "value": "so"}]
    line = json.dumps({"image": "a.png", "conversations": turns}).replace("why?", "<image>", 1)
    path = _write(tmp_path / "a.jsonl", f"{line}\n" * 500)
    size = len(pickle.dumps(_source(path)))
    # Four numbers of 8 bytes and the end of its keys for each sample, and some words for all.
    assert size < 500 * 5 * 8 + 2000
    assert size < path.stat().st_size / 40


def test_lengths_follow_the_texts(tmp_path: Path) -> None:
    for name in ("plain.jsonl", "one-line.json"):
        lengths = _source(_write(tmp_path / name, LAYOUTS[name])).lengths()
        assert sorted(range(8), key=lambda i: lengths[i]) == sorted(
            range(8), key=lambda i: len(LINES[i].encode())
        )


def test_image_paths_start_from_the_root(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.json", LAYOUTS["one-line.json"])
    source = _source(path, image_root=tmp_path / "elsewhere")
    (picture,) = source[2].images
    assert picture.source == str(tmp_path / "elsewhere" / "bilder/ä.png")


def test_is_rebuilt_in_whatever_folder_a_later_command_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = JSONConversations("data/a.json", on_bad_sample="skip").rebuild_config()
    assert record["init_args"] == {
        "path": str(tmp_path / "data" / "a.json"),
        "image_root": str(tmp_path / "data"),
        "on_bad_sample": "skip",
        "max_skipped": 100,
    }


def test_yields_texts_and_passes_unusable_samples_over(tmp_path: Path) -> None:
    bad = json.dumps({"conversations": "hi"})
    source = _source(_write(tmp_path / "a.jsonl", f"{LINES[0]}\n{bad}\n{LINES[1]}"))
    assert list(source.texts()) == ["red?", "red", "größe?", "größe"]


def test_names_a_missing_file(tmp_path: Path) -> None:
    message = r"path must be a JSON or JSON Lines file, got .*/no\.json, which does not exist"
    with pytest.raises(FileNotFoundError, match=message):
        _source(tmp_path / "no.json")


GOOD = '{"messages": [{"role": "user", "content": "a"}]}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.json: must hold at least one sample, got none."),
        (" \n\n", "a.json: must hold at least one sample, got none."),
        ("[]", "a.json: must hold at least one sample, got none."),
        (f"{GOOD}\n{GOOD[:30]}", "a.json:2: each line must be one whole JSON object, got one that"),
        (f"{GOOD}\n{GOOD} x", "a.json:2: each line must be one whole JSON object"),
        ('{\n  "a": 1\n}', "a.json:1: each line must be one whole JSON object"),
        ("hello", "a.json:1: each line must be one whole JSON object"),
        ("[", "a.json:1: must be a whole JSON list, but the sample that begins here breaks off"),
        (f"[{GOOD},\n{GOOD[:30]}", "a.json:2: must be a whole JSON list, but the sample that"),
        (f"[{GOOD},\n", "a.json:2: must be a whole JSON list, but the sample that begins here"),
        (f"[\n{GOOD}", "a.json:2: must be a whole JSON list, but after the sample that ends here"),
        (f"[{GOOD}\n{GOOD}]", "a.json:2: must be a whole JSON list, but after the sample that"),
        (f"[{GOOD}]\n[{GOOD}]", "a.json:2: nothing must follow the JSON list, got '[{"),
        (f"[{GOOD}]x", "a.json:1: nothing must follow the JSON list, got 'x'. Join the lists"),
    ],
)
def test_names_the_line_at_which_a_file_breaks_off(
    tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(BadSampleError, match=re.escape(message)) as caught:
        _source(_write(tmp_path / "a.json", content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", ["{0}\n{1}", "[{0},\n{1}]", "\ufeff{0}\n{1}", "\ufeff[{0},{1}]"])
def test_names_the_byte_that_is_no_utf_8(tmp_path: Path, layout: str) -> None:
    other = GOOD.replace('"a"', '"größe"')
    content = layout.format(GOOD, other).encode().replace("ö".encode(), "ö".encode("latin-1"))
    path = _write(tmp_path / "a.json", content)
    message = rf"a\.json: must be UTF-8, got the byte 0xf6 at byte {content.index(0xF6)}\."
    with pytest.raises(BadSampleError, match=message):
        _source(path)


def test_refuses_utf_16(tmp_path: Path) -> None:
    with pytest.raises(BadSampleError, match=r"must be UTF-8, got the byte 0xff at byte 0\."):
        _source(_write(tmp_path / "a.json", GOOD.encode("utf-16")))


def test_names_file_line_and_sample_of_bad_content(tmp_path: Path) -> None:
    bad = json.dumps({"id": "odd", "conversations": "hi"})
    source = _source(_write(tmp_path / "a.jsonl", f"{LINES[0]}\n{bad}\n"))
    message = r"a\.jsonl:2 \(sample 'odd'\): 'conversations' must be a list, got the string 'hi'"
    with pytest.raises(BadSampleError, match=message):
        source[1]


def test_refuses_a_negative_ceiling(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"max_skipped must not be negative, got -1"):
        JSONConversations(tmp_path, max_skipped=-1)
