from collections.abc import Callable
from pathlib import Path

import pytest

CLI = Callable[..., tuple[int, str, str]]


def test_lists_tools_and_data_sets_when_asked_for_help(cli: CLI) -> None:
    code, out, err = cli("data", "--help")
    assert (code, err) == (0, "")
    assert "  check     what is wrong with files of dialogues" in out
    assert "  show      what a model sees of a sample" in out
    assert "  emoji     3,786 emoji" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Got nothing."),
        (["emojis"], "Got 'emojis'. Did you mean: emoji?"),
        (["chek"], "Got 'chek'. Did you mean: check?"),
        (["emoji"], "the following arguments are required: OUT."),
        (["emoji", "out", "--shard", "2"], "unknown option --shard. Did you mean: --shards?"),
        (["emoji", "out", "--shards", "few"], "--shards: invalid int value: 'few'."),
    ],
)
def test_explains_a_wrong_command_line(cli: CLI, words: list[str], message: str) -> None:
    code, out, err = cli("data", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert "lit-vlm data --help lists the options" in err


def test_hands_its_options_on(cli: CLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    def prepare_emoji(*options: object) -> int:
        given.extend(options)
        return 1234

    monkeypatch.setattr("lit_vlm.emoji.prepare_emoji", prepare_emoji)
    monkeypatch.chdir(tmp_path)
    words = ["out", "--source", "from", "--overwrite", "--shards", "3"]
    code, out, err = cli("data", "emoji", *words)
    assert (code, err) == (0, "")
    assert given == [tmp_path / "out", Path("from"), True, 3]
    assert out.startswith(f"1,234 emoji each are in {tmp_path / 'out' / 'google.jsonl'} and ")


def test_says_what_is_missing_in_a_folder_of_packages(cli: CLI, tmp_path: Path) -> None:
    code, _, err = cli("data", "emoji", tmp_path / "out", "--source", tmp_path)
    assert code == 1
    assert f"{tmp_path} must hold emoji-datasource-google-16.0.0.tgz, got no such file." in err
    assert list(tmp_path.iterdir()) == []
