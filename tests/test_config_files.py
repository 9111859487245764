from pathlib import Path

import pytest

from lit_vlm.config_files import CONFIGS, find_config, read_config
from lit_vlm.errors import ConfigError


def test_finds_a_shipped_experiment_by_name() -> None:
    assert find_config("quickstart") == str(CONFIGS / "quickstart.yaml")


def test_prefers_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quickstart").write_text("trainer: {}")
    monkeypatch.chdir(tmp_path)
    assert find_config("quickstart") == "quickstart"


@pytest.mark.parametrize("name", ["quikstart", "configs/quikstart.yaml"])
def test_suggests_the_experiment_that_was_meant(name: str) -> None:
    with pytest.raises(ConfigError, match=r"got '.*'\. Did you mean: quickstart\?"):
        find_config(name)


def test_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a file or a shipped experiment"):
        find_config(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "must hold keys such as trainer and model, got an empty file"),
        (b"# nothing\n", "got an empty file"),
        (b"- a\n", "got a list"),
        (b"quickstart\n", "got a str"),
        (b"trainer:\n  max_epochs: [1\nmodel: x\n", r"x\.yaml:3: a config must be YAML, got: "),
        (b"trainer:\n\tmax_epochs: 1\n", r"x\.yaml:2: .* cannot start any token"),
        (b"\x89PNG\r\n", "got a file that is no text"),
        (b"a: {b: 1}\nc: [{d: 1, d: 2}]\n", r"x\.yaml:2: each key must stand once, got d again"),
        (b"model: 1\ntrainer: 2\nmodel: 3\n", r"x\.yaml:3: .* got model again"),
        (b"a: \x07\n", "a config must be YAML, got"),
    ],
)
def test_says_what_is_wrong_with_a_config_and_where(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=problem):
        read_config(str(path))


def test_leaves_interpolations_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("trainer: {default_root_dir: '${vars.root}/a'}")
    assert read_config(str(path)) == {"trainer": {"default_root_dir": "${vars.root}/a"}}
