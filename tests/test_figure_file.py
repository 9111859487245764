import json
from pathlib import Path

from lit_vlm.figure_file import write_figures

FIGURES = {"test/loss": 0.5, "test/r1": float("nan")}


def test_writes_figures_by_name(tmp_path: Path) -> None:
    path = tmp_path / "made" / "figures.json"
    write_figures(path, FIGURES)
    assert json.loads(path.read_text()) == {"test/loss": 0.5, "test/r1": None}
    assert [file.name for file in path.parent.iterdir()] == ["figures.json"]


def test_writes_a_table(tmp_path: Path) -> None:
    write_figures(tmp_path / "figures.csv", FIGURES)
    lines = (tmp_path / "figures.csv").read_text().splitlines()
    assert lines == ["figure,value", "test/loss,0.5", "test/r1,"]
