import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lit_vlm.linting.fixing import Fixer, FixReport
from lit_vlm.linting.linter import Linter
from lit_vlm.linting.problems import severity_of

Sample = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


def fix(paths: list[Path], out: Path, **options: Any) -> tuple[FixReport, list[Any]]:
    keep = options.get("image_root") is not None
    report = Fixer(Linter(paths, **options), out, keep).write()
    return report, [json.loads(line) for line in out.read_text().splitlines()]


def errors(path: Path, **options: Any) -> list[Any]:
    reports = Linter([path], **options).reports()
    return [p for r in reports for p in r.problems if severity_of(p.kind) == "error"]


def test_keeps_the_good_mends_the_mendable_and_names_the_rest(
    write: Write, folder: Path, sample: Sample
) -> None:
    good = sample("1", source="kept as it is")
    path = write([good, "{broken", sample("2", answer=" red "), sample("3", "none.png")])
    report, written = fix([path], folder / "out.jsonl")
    assert written == [good, sample("2", answer="red")]
    assert (report.written, dict(report.mended)) == (2, {"trimmed_answer": 1})
    assert report.mended_samples == [
        {"file": str(path), "line": 3, "index": 1, "id": "2", "mends": ["trimmed_answer"]}
    ]
    assert [(p.kind, p.line, p.id) for p in report.left_out] == [
        ("broken_line", 2, ""),
        ("missing_image", 4, "3"),
    ]


def test_gives_each_sample_an_id_of_its_own_across_files(
    write: Write, folder: Path, sample: Sample
) -> None:
    paths = [
        write([sample("1"), sample("1"), sample(None, None, "hi")], "a.jsonl"),
        write([sample("1"), sample("1-2"), sample("a-2", None, "hi")], "b.jsonl"),
    ]
    report, written = fix(paths, folder / "out.jsonl")
    assert [record["id"] for record in written] == ["1", "1-3", "a-2", "1-4", "1-2", "a-2-2"]
    assert dict(report.mended) == {"unique_id": 3, "made_id": 1}
    assert errors(folder / "out.jsonl") == []


def test_moves_paths_with_the_file(write: Write, folder: Path, sample: Sample) -> None:
    messages = [
        {"role": "user", "content": [{"type": "image", "path": "blue.png"}]},
        {"role": "assistant", "content": "blue"},
    ]
    absolute = sample("3", str(folder / "red.png"))
    path = write([sample("1"), {"id": "2", "messages": messages}, absolute])
    out = folder / "new/deep/out.jsonl"
    report, written = fix([path], out)
    assert written[0]["image"] == "../../red.png"
    assert written[1]["messages"][0]["content"][0]["path"] == "../../blue.png"
    assert written[2] == absolute
    assert report.mended["moved_paths"] == 2
    assert errors(out) == []


def test_moves_paths_to_where_a_linked_folder_is(
    write: Write, folder: Path, sample: Sample
) -> None:
    (folder / "far/away").mkdir(parents=True)
    (folder / "near").symlink_to(folder / "far/away", target_is_directory=True)
    _, written = fix([write([sample("1")])], folder / "near/out.jsonl")
    assert written[0]["image"] == "../../red.png"
    assert errors(folder / "near/out.jsonl") == []


def test_leaves_paths_alone_that_start_from_a_root(
    write: Write, folder: Path, sample: Sample
) -> None:
    path = write([sample()])
    report, written = fix([path], folder / "new/out.jsonl", image_root=folder)
    assert (written, dict(report.mended)) == ([sample()], {})


def test_leaves_out_what_the_test_files_show(write: Write, folder: Path, sample: Sample) -> None:
    test = write([sample("t")], "test.jsonl")
    path = write([sample("1"), sample("2", "blue.png")])
    report, written = fix([path], folder / "out.jsonl", against=[test])
    assert [record["id"] for record in written] == ["2"]
    assert [problem.kind for problem in report.left_out] == ["image_in_test"]


def test_does_not_mix_questions_among_answers(write: Write, folder: Path, sample: Sample) -> None:
    question = sample("1")
    question["conversations"].pop()
    questions, answers = write([question], "q.jsonl"), write([sample("2")], "a.jsonl")
    _, alone = fix([questions], folder / "out.jsonl")
    assert alone == [question]
    report, written = fix([questions, answers], folder / "out.jsonl")
    assert [record["id"] for record in written] == ["2"]
    assert [problem.kind for problem in report.left_out] == ["no_answer"]


def test_looks_at_images_that_only_the_mended_sample_names(
    write: Write, folder: Path, sample: Sample
) -> None:
    messages = [
        {"role": "user", "content": [{"type": "image", "path": "none.png"}]},
        {"role": "assistant", "content": "blue"},
    ]
    path = write([{"id": "1", "messages": json.dumps(messages)}])
    report, written = fix([path], folder / "out.jsonl")
    assert written == []
    assert [problem.kind for problem in report.left_out] == ["missing_image"]


def test_reads_a_list_out_of_a_string_and_guesses_none(
    write: Write, folder: Path, sample: Sample
) -> None:
    path = write(
        [
            sample("1", '["red.png"]', boxes="[]", answers='["x", "y"]'),
            sample("2", answers="['x', 'y']"),
        ]
    )
    assert [(p.kind, p.id) for p in errors(path) if p.id == "1"] == [("string_for_list", "1")] * 3
    report, written = fix([path], folder / "out.jsonl")
    assert written == [sample("1", ["red.png"], boxes=[], answers=["x", "y"])]
    assert [(p.kind, p.id) for p in report.left_out] == [("string_for_list", "2")]


def test_keeps_words_that_look_like_a_box(write: Write, folder: Path, sample: Sample) -> None:
    prose = sample("1", answer="<box>1</box> is a tag")
    report, written = fix([write([prose])], folder / "out.jsonl")
    assert (written, report.left_out) == ([prose], [])


def test_writes_half_a_surrogate_pair_where_nobody_reads_it(
    write: Write, folder: Path, sample: Sample
) -> None:
    lone = sample("1", note="\ud800")
    _, written = fix([write([lone, sample("2", answer="ü")])], folder / "out.jsonl")
    assert written == [lone, sample("2", answer="ü")]
    assert '"ü"' in (folder / "out.jsonl").read_text()


def test_writes_the_whole_file_or_none(
    write: Write, folder: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder / "out.jsonl"
    out.write_text("earlier")
    linter = Linter([write([sample("1"), sample("2", "blue.png")])])
    monkeypatch.setattr(Fixer, "_move", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Fixer(linter, out, keep_paths=False).write()
    assert out.read_text() == "earlier"
    assert list(folder.glob("*.part")) == []


WORDS: Any = st.sampled_from(["", " a ", "<image>b", "c", ["d"], "<bbox>", None])
TURNS: Any = st.lists(
    st.fixed_dictionaries(
        {"from": st.sampled_from(["system", "human", "gpt", "User", "bot"]), "value": WORDS}
    ),
    max_size=4,
)
CHATS: Any = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "human", "GPT"]), "content": WORDS}
    ),
    max_size=4,
)
KEYS: Any = {
    "id": st.sampled_from(["1", 1, "1-2", "data-0", None]),
    "image": st.sampled_from(["a.png", ["a.png"], ["none.png"], [], 3]),
    "images": st.sampled_from(["a.png", ["a.png", "a.png"]]),
    "boxes": st.sampled_from([[0, 0, 5, 5], [[0, 0, 5, 5]], [[0, 0, 99, 5]], "[]", 3]),
}
RECORDS: Any = st.one_of(
    st.fixed_dictionaries({"conversations": TURNS}, optional=KEYS),
    st.fixed_dictionaries({"messages": CHATS}, optional=KEYS),
    st.fixed_dictionaries({"messages": CHATS.map(json.dumps)}, optional=KEYS),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORDS, max_size=6), st.sampled_from(["out.jsonl", "new/out.jsonl"]))
def test_what_it_writes_has_no_errors(records: list[Any], name: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        Image.new("RGB", (12, 10)).save(folder / "a.png")
        path = folder / "data.jsonl"
        path.write_text("\n".join(json.dumps(record) for record in records))
        report, written = fix([path], folder / name)
        assert report.written == len(written)
        assert report.written + len(report.left_out) == len(records)
        assert not written or errors(folder / name) == []
        assert fix([path], folder / name)[1] == written
