import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

CLI = Callable[..., tuple[int, str, str]]


def sample(id: str, image: str = "red.png", answer: str = "red", **keys: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>what?"}, {"from": "gpt", "value": answer}]
    return {"id": id, "image": image, "conversations": turns, **keys}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in; it holds ``red.png`` and ``blue.png``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for color in ("red", "blue"):
        Image.new("RGB", (30, 20), color).save(tmp_path / f"{color}.png")
    return tmp_path


def write(name: str, *records: dict[str, Any]) -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_exits_with_0_for_a_clean_file(cli: CLI) -> None:
    write("good.jsonl", sample("1"), sample("2", "blue.png", "blue"))
    code, out, err = cli("data", "check", "good.jsonl")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "errors: 0, warnings: 0, infos: 0"


def test_exits_with_1_for_errors_and_writes_what_it_found_and_mended(cli: CLI) -> None:
    bad = sample("3", answer="")
    path = write("bad.jsonl", sample("1"), sample("1", "blue.png", " blue"), bad)
    before = path.read_bytes()
    options = ("--fix", "out.jsonl", "--output", "reports/report.json", "--num_workers", "2")
    code, out, err = cli("data", "check", path, *options)
    assert (code, err) == (1, "")
    assert "duplicate_id" in out
    assert "line 3 (3)" in out
    assert "out.jsonl: 2 samples written" in out
    assert out.splitlines()[-1] == "errors: 2, warnings: 1, infos: 0"
    assert path.read_bytes() == before
    record = json.loads(Path("reports/report.json").read_text())
    assert record["errors"] == 2
    assert set(record["files"][0]["problems"]) == {"duplicate_id", "empty_answer", "surplus_space"}
    assert record["fix"]["mended"] == {"trimmed_answer": 1, "unique_id": 1}
    assert cli("data", "check", "out.jsonl")[0] == 0


def test_warnings_count_only_if_they_are_asked_to(cli: CLI) -> None:
    write("long.jsonl", sample("1", answer="one two three"))
    assert cli("data", "check", "long.jsonl")[0] == 0
    words = ("data", "check", "long.jsonl", "--max_answer_words", "2")
    code, out, _ = cli(*words)
    assert (code, out.splitlines()[-1]) == (0, "errors: 0, warnings: 1, infos: 0")
    assert cli(*words, "--strict")[0] == 1


def test_checks_several_files_against_several_test_files(cli: CLI, folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    for name in ("a", "b"):
        write(f"{name}.jsonl", sample(name))
    write("t.jsonl", sample("t", "blue.png"))
    write("u.jsonl", sample("u"))
    code, out, _ = cli("data", "check", "a.jsonl", "b.jsonl", "--against", "t.jsonl", "u.jsonl")
    assert (code, out.count("image_in_test")) == (1, 2)
    assert cli("data", "check", "a.jsonl", "b.jsonl", "--against", "t.jsonl")[0] == 0
    root = ("--image_root", folder / "elsewhere")
    out = cli("data", "check", "a.jsonl", *root)[1]
    assert "missing_image" in out
    assert "No image of a.jsonl was found: give --image_root" in out


def test_counts_tokens_as_the_model_of_a_config_reads_them(cli: CLI, cli_folder: Path) -> None:
    write("data.jsonl", sample("1"), sample("2", "blue.png", "b" + " b" * 40))
    config = ("--config", cli_folder / "tiny.yaml", "--model.max_length", "40")
    code, out, err = cli("data", "check", "data.jsonl", *config)
    assert (code, out.splitlines()[-1]) == (0, "errors: 0, warnings: 1, infos: 0")
    assert "truncated" in out
    assert "line 2 (2)" in out
    assert err.startswith("The config names no tokenizer: one was trained here")


def test_help_says_what_is_looked_for(cli: CLI) -> None:
    code, out, err = cli("data", "check", "--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: lit-vlm data check FILE")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "data check: the following arguments are required: FILE."),
        (["a.jsonl", "--agains", "b"], 2, "unknown option --agains. Did you mean: --against?"),
        (["a.jsonl", "--num_workers", "0"], 2, "--num_workers must be at least 1, got 0."),
        (["a.jsonl", "--max_answer_words", "few"], 2, "invalid int value: 'few'."),
        (["a.jsonl", "--fix", "a.jsonl"], 2, "--fix must be another file than those that are"),
        (["a.jsonl", "--output", "./a.jsonl"], 2, "--output must be another file than those"),
        (["a.jsonl", "--fix", "b", "--output", "b"], 2, "--fix and --output must be two files"),
        (["a.jsonl", "--fix", "b.json"], 2, "--fix writes JSON Lines, got b.json. Name it .jsonl."),
        (["a.jsonl", "--fix", "b.jsonl.gz"], 2, "got b.jsonl.gz. Name it .jsonl."),
        (["a.jsonl", "--output", "b.jsonl"], 2, "--output writes JSON, got b.jsonl. Name it .json"),
        (["a.jsonl", "--fix", "."], 2, "--fix must be a file, got the folder ."),
        (["a.jsonl", "--output", ".."], 2, "--output must be a file, got the folder .."),
        (["a.jsonl", "--fix", "red.png/b.jsonl"], 1, "must be writable, got red.png"),
        (["a.jsonl", "--stage", "align"], 2, "--stage must come with --config, got none."),
        (["a.jsonl", "--stage", "s", "--ckpt_path", "a/b"], 2, "Give --config, too."),
        (["a.jsonl", "--image_root", "no"], 2, "--image_root must be a folder, got no."),
        (["a.jsonl", "--config", "quikstart"], 2, "Did you mean: quickstart"),
        (["../"], 1, "..: must be a JSON or JSON Lines file, got a folder."),
        (["none.jsonl"], 1, "none.jsonl: must be a JSON or JSON Lines file, got one that does not"),
        (["a.jsonl", "--ckpt_path", "no.ckpt"], 1, "--ckpt_path must be a checkpoint file, got no"),
    ],
)
def test_explains_a_wrong_command_line(cli: CLI, words: list[str], code: int, message: str) -> None:
    path = write("a.jsonl", sample("1"))
    before = path.read_bytes()
    got, out, err = cli("data", "check", *words)
    assert (got, out) == (code, "")
    assert message in err
    assert ("lit-vlm data check --help lists" in err) == (code == 2)
    assert path.read_bytes() == before
