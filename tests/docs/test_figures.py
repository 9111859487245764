"""The figures under docs/figures/ are still drawn by their scripts and commands."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

CLI = Callable[..., tuple[int, str, str]]
FIGURES = Path(__file__).parents[2] / "docs/figures"


@pytest.mark.parametrize("name", sorted(path.stem for path in FIGURES.glob("*.py")))
def test_draws(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (FIGURES / f"{name}.png").is_file()
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(sys, "argv", ["script", str(tmp_path / "figure.png")])
    runpy.run_path(str(FIGURES / f"{name}.py"), run_name="__main__")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_of_the_page_still_draws_the_recipe(tmp_path: Path, cli: CLI) -> None:
    picture = tmp_path / "recipe.png"
    code, _, err = cli("show", "recipe", "--config", "llava", "--output", picture)
    assert code == 0, err
    with Image.open(picture) as drawn, Image.open(FIGURES / "llava_recipe.png") as kept:
        assert drawn.size == kept.size
        difference = ImageStat.Stat(ImageChops.difference(drawn.convert("L"), kept.convert("L")))
    # Letters may differ a little with matplotlib's version; other steps or rates differ more.
    assert difference.mean[0] < 2
