from collections.abc import Callable
from pathlib import Path

import pytest

CLI = Callable[..., tuple[int, str, str]]

STAGES = """
trainer: {max_steps: 30}
staged_freezing:
  stages:
    align: {trains: [connector], steps: 10, learning_rate: 1.0e-3}
    tune: {trains: [connector, language_model], warmup: 3, image_size: 64}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def test_prints_who_trains_when_and_draws_it(cli: CLI, folder: Path) -> None:
    (folder / "stages.yaml").write_text(STAGES)
    code, out, err = cli("show", "recipe", "--config", "quickstart", "--config", "stages.yaml")
    assert (code, err) == (0, "")
    lines = out.replace("┃", "│").splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        ["part", "align", "tune"],
        ["encoder", "frozen", "frozen"],
        ["connector", "1e-3", "2e-3"],
        ["language_model", "frozen", "2e-3"],
        ["length", "10 steps", "20 steps"],
        ["schedule", "cosine, warm-up 100 steps", "cosine, warm-up 3 steps"],
        ["batches", "", "64 px"],
    ]
    assert lines[-1] == "The figure is in recipe.png"
    assert (folder / "recipe.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in folder.iterdir()} == {"stages.yaml", "recipe.png"}


def test_needs_neither_the_parts_nor_the_data_of_a_config(cli: CLI, folder: Path) -> None:
    options = ("--model.encoder.pretrained", "/nowhere/7b", "--output", "out/frozen.svg")
    code, out, err = cli("show", "recipe", "--config", "real_parts", *options)
    assert (code, err) == (0, "")
    assert "the whole run" in out
    assert "<svg" in (folder / "out/frozen.svg").read_text()


def test_obeys_the_command_line_as_fit_does(cli: CLI) -> None:
    option = ("--staged_freezing.stages.tune.steps", "70")
    code, out, err = cli("show", "recipe", "--config", "llava", *option)
    assert (code, err) == (0, "")
    assert "70 steps" in out


def test_help_says_what_is_shown(cli: CLI) -> None:
    code, out, err = cli("show", "recipe", "--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: lit-vlm show recipe --config FILE")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "show must be followed by a topic: recipe (who trains when, how long and at which"),
        (["recpe"], "Got 'recpe'. Did you mean: recipe?"),
        (["recipe", "--config", "nowhere.yaml"], "--config must be a file or a shipped experiment"),
        (["recipe", "--config", "llava", "--output", "a.doc"], "must end in .png, .pdf, .svg, got"),
        (["recipe", "--config", "llava", "--trainer.max_epoch", "3"], "mean: trainer.max_epochs"),
        (
            ["recipe", "--config", "llava", "--staged_freezing.stages.tune.steps", "0"],
            "Stage: steps must be at least 1, got 0",
        ),
    ],
)
def test_says_what_is_wrong(cli: CLI, words: list[str], message: str) -> None:
    code, out, err = cli("show", *words)
    assert code != 0
    assert out == ""
    assert message in err
