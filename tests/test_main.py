import subprocess
import sys
from collections.abc import Callable

import pytest

import lit_vlm
from lit_vlm.__main__ import COMMANDS, main
from lit_vlm.errors import ConfigError

CLI = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_lists_the_commands_when_asked_for_help_or_nothing(cli: CLI, words: list[str]) -> None:
    code, out, err = cli(*words)
    assert (code, err) == (0, "")
    assert all(f"  {command} " in out for command in COMMANDS)


def test_prints_the_version(cli: CLI) -> None:
    assert cli("--version") == (0, f"lit-vlm {lit_vlm.__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["fti"],
        ["chat", "--help"],
        ["data", "--help"],
        ["show", "--help"],
    ],
)
def test_answers_at_once_without_importing_torch(words: list[str]) -> None:
    program = (
        "import sys\n"
        "from lit_vlm.__main__ import main\n"
        "try:\n"
        f"    main({words!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'torch', 'lightning', 'transformers', 'numpy'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("fti", "Did you mean: fit?"),
        ("zzz", "Accepted: chat, data, fit, plan, predict, score, show, test, validate."),
        ("--config", "Accepted: chat, data, fit, plan, predict, score, show, test, validate."),
    ],
)
def test_names_the_command_that_was_meant(cli: CLI, word: str, hint: str) -> None:
    code, out, err = cli(word)
    assert (code, out) == (2, "")
    assert err == f"lit-vlm: the first word must be a command, got {word!r}. {hint}\n"


def test_says_how_to_see_where_an_error_came_from(cli: CLI) -> None:
    code, _, err = cli("fit", "--config", "nowhere.yaml")
    assert code == 2
    assert err.count("\n") == 2
    assert "(lit-vlm fit --help lists the options, --debug shows where this came from)" in err


@pytest.mark.parametrize("words", [["--debug", "fit"], ["fit", "--debug"]])
def test_debug_raises_the_error_itself(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="--config must be a file or a shipped experiment"):
        main([*words, "--config", "nowhere.yaml"])


def test_shows_the_traceback_of_what_is_no_mistake_of_the_users(
    cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: str, words: list[str]) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("lit_vlm.cli.run", run)
    with pytest.raises(KeyError, match="a bug"):
        cli("fit")
