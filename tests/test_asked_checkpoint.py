from pathlib import Path

import pytest

from lit_vlm.asked_checkpoint import locate_checkpoint, named_folder


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "run.yaml"
    path.write_text("vars: {name: one}\ntrainer: {default_root_dir: 'runs/${vars.name}'}\n")
    return str(path)


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        ("--config CONFIG", "runs/one"),
        ("-c CONFIG --vars.name two", "runs/two"),
        ("--config=CONFIG --vars.name=three", "runs/three"),
        ("--trainer.default_root_dir here --config CONFIG", "here"),
        ("--trainer.default_root_dir=here", "here"),
        ("--config CONFIG --config OTHER", "elsewhere"),
        ("--config EMPTY", "runs"),
    ],
)
def test_a_run_folder_is_what_configs_and_options_say(
    config: str, tmp_path: Path, words: str, folder: str
) -> None:
    (tmp_path / "other.yaml").write_text("trainer: {default_root_dir: elsewhere}\n")
    (tmp_path / "empty.yaml").write_text("trainer:\n")
    for name in ("other", "empty"):
        words = words.replace(name.upper(), str(tmp_path / f"{name}.yaml"))
    assert named_folder(words.replace("CONFIG", config).split()) == Path(folder)


def test_words_that_name_no_run_have_no_folder() -> None:
    assert named_folder(["--model", "x", "--trainer.max_epochs", "2"]) is None


def test_paths_stay_as_they_are() -> None:
    assert locate_checkpoint("no/such.ckpt", []) == "no/such.ckpt"


def test_an_undefined_variable_is_an_error(config: str, tmp_path: Path) -> None:
    path = tmp_path / "undefined.yaml"
    path.write_text("trainer: {default_root_dir: 'runs/${vars.nam}'}\n")
    with pytest.raises(ValueError, match=r"Interpolation key 'vars\.nam' not found"):
        named_folder(["--config", config, "--config", str(path)])
