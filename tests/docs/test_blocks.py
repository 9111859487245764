"""Every block of the README and of the pages under docs/ is what it says it is."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_vlm.data.parsing import parse_conversation

CLI = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[Any]:
    found = []
    for page in PAGES:
        for number, (kind, text) in enumerate(FENCE.findall(page.read_text())):
            if kind == language:
                name = page.relative_to(ROOT).as_posix()
                found.append(pytest.param(text, id=f"{name}-{number}"))
    return found


def commands() -> list[Any]:
    """Return the commands that need no trained model; tests/e2e/ runs the others."""
    lines = [line for block in blocks("sh") for line in block.values[0].splitlines()]
    parts = [part.strip() for line in lines for part in line.split(" && ")]
    kinds = ("lit-vlm fit ", "lit-vlm predict --model ")
    # tests/systems/ reads the systems' configs, and checks what their pages say.
    wanted = dict.fromkeys(p for p in parts if p.startswith(kinds) and " systems/" not in p)
    return [shlex.split(command, comments=True)[1:] for command in wanted]


@pytest.mark.parametrize("text", blocks("python"))
def test_python_blocks_run(text: str) -> None:
    exec(compile(text, "block", "exec"), {"__name__": "block"})


@pytest.mark.parametrize("text", blocks("json"))
def test_json_blocks_are_samples(text: str) -> None:
    record = json.loads(text)
    conversation = parse_conversation(record, where="docs", image_root=Path(), default_id="0")
    assert conversation.turns[-1].role == "assistant"


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_blocks_are_configs(text: str, tmp_path: Path, cli: CLI) -> None:
    (tmp_path / "block.yaml").write_text(text)
    files = ("--config", "quickstart", "--config", tmp_path / "block.yaml")
    code, out, err = cli("fit", *files, "--print_config")
    assert code == 0, err
    assert yaml.safe_load(text).keys() <= yaml.safe_load(out).keys()


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_parse(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: CLI
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_project.py").write_text(_readme_part())
    (tmp_path / "photos").mkdir()
    code, out, err = cli(*command, "--print_config")
    assert code == 0, err
    assert "class_path" in out


def test_a_part_of_the_readme_passes_its_check() -> None:
    from lit_vlm.testing import check_connector

    names: dict[str, Any] = {"__name__": "my_project"}
    exec(_readme_part(), names)
    check_connector(names["NormedConnector"](in_dim=8, out_dim=12), num_patches=16)


def test_the_readme_can_be_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def _readme_part() -> str:
    [text] = [t for kind, t in FENCE.findall((ROOT / "README.md").read_text()) if kind == "python"]
    return str(text)
