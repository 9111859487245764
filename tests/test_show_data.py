import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

CLI = Callable[..., tuple[int, str, str]]

BOX = {
    "id": "b",
    "image": "wide.png",
    "boxes": [[0, 0, 20, 10]],
    "conversations": [
        {"from": "human", "value": "<image>where?"},
        {"from": "gpt", "value": "at <bbox>"},
    ],
}
WORDS = {
    "id": "w",
    "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in; it holds ``data.jsonl``, one line of which is broken."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 20), "red").save(tmp_path / "wide.png")
    lines = [json.dumps(WORDS), "{broken", json.dumps(BOX)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_shows_the_dialogue_without_a_model(cli: CLI, folder: Path) -> None:
    code, out, err = cli("data", "show", "data.jsonl", "--index", "1", "--output", "page.html")
    assert code == 0
    assert err.startswith("No model was named")
    assert out.splitlines() == [
        "data.jsonl:3 (sample 'b')",
        "image 1: wide.png, 40 x 20 pixels, seen as 40 x 20, boxes: 1",
        "user: [wide.png]where?",
        "assistant: at <bbox>[0, 0, 20, 10]",
        "The page is in page.html",
    ]
    page = (folder / "page.html").read_text()
    assert '<rect x="0" y="0" width="20" height="10"/>' in page
    assert "at &lt;bbox&gt;[0, 0, 20, 10]" in page
    assert 'href="data:image/png;base64,' in page


def test_shows_what_a_trained_model_reads(cli: CLI, finished_run: Path, folder: Path) -> None:
    words = ("--ckpt_path", finished_run, "--output", "page.html")
    code, out, err = cli("data", "show", "data.jsonl", "--id", "b", *words)
    assert code == 0, err
    lines = out.splitlines()
    assert "image 1: wide.png, 40 x 20 pixels, seen as 32 x 32, boxes: 1" in lines
    [tokens] = [line for line in lines if line.startswith("[4 visual tokens of image 1]|")]
    plain = tokens.replace("<|end|>", "END").replace("|", "")
    assert plain == "[4 visual tokens of image 1]where?⏎«at <box>(0,250),(500,500)</box>END»"
    [learnt] = [line for line in lines if line.startswith("learnt 1: ")]
    # The picture is padded to a square: the box's lower edge is seen in the middle of it.
    assert learnt == "learnt 1: 'at <box>(0,250),(500,500)</box><|end|>'"
    supervised = tokens.partition("«")[2].replace("<|end|>", "END").count("|") + 1
    assert any(f" {supervised} supervised; 0 cut off by max_length=2,048" in x for x in lines)
    page = (folder / "page.html").read_text()
    assert page.count('<span class="token supervised"') == supervised
    assert '<rect x="0" y="8" width="16" height="8"/>' in page


def test_trains_a_tokenizer_where_the_config_has_none_and_says_so(
    cli: CLI, cli_folder: Path
) -> None:
    config = ("--config", cli_folder / "tiny.yaml", "--model.max_length", "7")
    code, out, err = cli("data", "show", "data.jsonl", *config)
    assert code == 0
    assert err.startswith("The config names no tokenizer: one was trained here")
    lines = out.splitlines()
    assert lines[-1].startswith("learnt 1: 'h")
    assert "cut off by max_length=7" in lines[-2]


@pytest.mark.parametrize(
    ("keys", "text", "shown", "reason"),
    [
        ({"image": ["wide.png", "b.png"]}, "at", "human: <image>where?", "got 1 markers and 2"),
        ({}, " ", "gpt:  ", "an answer must have text, got an empty one."),
        ({}, 7, "gpt: 7", "'value' must be a string, got int."),
        ({"image": "corrupt.png"}, "at", "gpt: at", "corrupt.png"),
        ({}, "at <&> \ud800", r"gpt: at <&> \ud800", "got half of a surrogate pair"),
    ],
)
def test_shows_what_stands_in_the_file_where_training_refuses_it(
    cli: CLI, folder: Path, keys: dict[str, Any], text: Any, shown: str, reason: str
) -> None:
    turns = [{"from": "human", "value": "<image>where?"}, {"from": "gpt", "value": text}]
    record = {"id": "r", "image": "wide.png", "conversations": turns, **keys}
    (folder / "bad.jsonl").write_text(json.dumps(WORDS) + "\n" + json.dumps(record))
    (folder / "corrupt.png").write_bytes((folder / "wide.png").read_bytes()[:40])
    code, out, err = cli("data", "show", "bad.jsonl", "--id", "r", "--output", "page.html")
    assert (code, "\nlit-vlm: " in f"\n{err}") == (1, False)
    lines = out.splitlines()
    assert lines[:2] == ["bad.jsonl:2 (sample 'r')", 'id: "r"']
    assert shown in lines
    assert lines[-2].startswith("Training refuses this sample: ")
    assert reason in lines[-2]
    assert "bad.jsonl" not in lines[-2]
    page = (folder / "page.html").read_text()
    assert f'<p class="turn">{escape(shown)}</p>' in page
    assert f'<p class="refusal">{escape(lines[-2])}</p>' in page


@pytest.mark.parametrize("named", ["run", "run/checkpoints/last.ckpt"])
def test_reads_as_a_stage_of_the_run_that_the_checkpoint_is_of(
    cli: CLI, finished_run: Path, folder: Path, named: str
) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "checkpoints").symlink_to(finished_run / "checkpoints")
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    config["staged_freezing"] = {
        "stages": {"short": {"trains": ["connector"], "steps": 1, "max_length": 9}}
    }
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    words = ("--index", "1", "--ckpt_path", named, "--stage")
    code, out, err = cli("data", "show", "data.jsonl", *words, "short")
    assert code == 0, err
    assert "cut off by max_length=9" in out
    err = cli("data", "show", "data.jsonl", *words, "shrt")[2]
    assert "got 'shrt'. Did you mean: short?" in err


def test_help_says_what_is_shown(cli: CLI) -> None:
    code, out, err = cli("data", "show", "--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: lit-vlm data show FILE")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "data show: the following arguments are required: FILE."),
        (["data.jsonl", "--indx", "1"], 2, "unknown option --indx. Did you mean: --index, --id?"),
        (["data.jsonl", "more"], 2, "data show: unknown word 'more'."),
        (["data.jsonl", "--index", "-1"], 2, "--index must not be negative, got -1."),
        (["data.jsonl", "--index", "2"], 2, "must be below the number of samples in data.jsonl, 2"),
        (["data.jsonl", "--id", "c"], 2, "--id must be one in data.jsonl, got 'c'."),
        (["data.jsonl", "--id", "b", "--index", "1"], 2, "the sample must be named once"),
        (["data.jsonl", "--output", "a.png"], 2, "--output must end in .html, got a.png."),
        (["data.jsonl", "--image_root", "no"], 2, "--image_root must be a folder, got no."),
        (["none.jsonl"], 1, "none.jsonl: must be a JSON or JSON Lines file"),
    ],
)
def test_explains_a_wrong_command_line(cli: CLI, words: list[str], code: int, message: str) -> None:
    got, out, err = cli("data", "show", *words)
    assert (got, out) == (code, "")
    assert message in err
    assert ("lit-vlm data show --help lists" in err) == (code == 2)
