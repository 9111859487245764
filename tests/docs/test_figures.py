"""The scripts under docs/figures/ still draw their figures."""

import runpy
import sys
from pathlib import Path

import pytest

FIGURES = Path(__file__).parents[2] / "docs/figures"


@pytest.mark.parametrize("name", sorted(path.stem for path in FIGURES.glob("*.py")))
def test_draws(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (FIGURES / f"{name}.png").is_file()
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(sys, "argv", ["script", str(tmp_path / "figure.png")])
    runpy.run_path(str(FIGURES / f"{name}.py"), run_name="__main__")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
