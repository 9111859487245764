"""The commands of docs/data.md that look at data do what the page says."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lit_vlm.linting import ABOUT

CLI = Callable[..., tuple[int, str, str]]
PAGE = (Path(__file__).parents[2] / "docs/data.md").read_text()
COMMANDS = re.findall(r"^lit-vlm (data (?:check|show) .*)$", PAGE, re.MULTILINE)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in, with the files that they name."""
    monkeypatch.chdir(tmp_path)
    for name, color in (("train", "red"), ("test", "blue")):
        Image.new("RGB", (30, 20), color).save(f"{name}.png")
        turns = [
            {"from": "human", "value": "<image>what color?"},
            {"from": "gpt", "value": color},
        ]
        records = [{"id": str(i), "image": f"{name}.png", "conversations": turns} for i in (0, 1)]
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command: str, cli: CLI, folder: Path, request: pytest.FixtureRequest) -> None:
    if "runs/quickstart" in command:
        shutil.copytree(request.getfixturevalue("finished_run"), folder / "runs/quickstart")
    words = shlex.split(command, comments=True)
    code, out, err = cli(*words)
    assert code == 0, out + err
    outputs = [value for value in words if value in ("mended.jsonl", "report.json", "page.html")]
    assert all((folder / name).is_file() for name in outputs)


def test_names_every_kind_of_problem() -> None:
    section = PAGE.partition("## Check and look")[2].partition("\n## ")[0]
    assert [kind for kind in ABOUT if f"`{kind}`" not in section] == []
