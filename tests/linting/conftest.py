import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lit_vlm.linting.linter import FileReport, Linter

Sample = Callable[..., dict[str, Any]]


@pytest.fixture
def sample() -> Sample:
    """Make a sample in LLaVA's form: a question about an image, and its answer."""

    def make(
        id: str | None = "1",
        image: str | None = "red.png",
        question: str = "<image>what?",
        answer: str = "it is red",
        **keys: Any,
    ) -> dict[str, Any]:
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        keys |= {} if id is None else {"id": id}
        return {"conversations": turns, **({"image": image} if image else {}), **keys}

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ``red.png``, ``blue.png``, of 30 x 20 pixels, and ``broken.png``."""
    for color in ("red", "blue"):
        Image.new("RGB", (30, 20), color).save(tmp_path / f"{color}.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "red.png").read_bytes()[:50])
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[..., Path]:
    """Write lines, records or texts, into a file of the folder."""

    def write(lines: list[Any], name: str = "data.jsonl") -> Path:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(texts))
        return path

    return write


@pytest.fixture
def check(write: Callable[..., Path]) -> Callable[..., FileReport]:
    """Check lines, and return what was found."""

    def check(lines: list[Any], **options: Any) -> FileReport:
        [report] = Linter([write(lines)], **options).reports()
        return report

    return check
