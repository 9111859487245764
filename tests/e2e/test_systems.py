"""Each system at toy size: all stages, then the test; who moved in which stage."""

import csv
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_vlm.config_reader import read_fit_config
from lit_vlm.recipe import Recipe, make_recipe
from lit_vlm.recipe_config import WHOLE_RUN, recipe_source

CLI = Callable[..., tuple[int, str, str]]
STAGED = ("llava", "qwen_vl", "pali3", "comm", "visual_chat")

pytestmark = pytest.mark.slow


def steps_with_loss(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


def state(run: Path, name: str) -> dict[str, Tensor]:
    checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return dict(checkpoint["state_dict"])


def moves(recipe: Recipe, run: Path) -> Iterator[tuple[str, str, str, bool]]:
    """Yield each stage but the first, each part, what the recipe says of it, whether it moved."""
    names = [column.name for column in recipe.columns]
    for (before, after), column in zip(pairwise(names), recipe.columns[1:], strict=True):
        one, other = state(run, f"stage-{before}"), state(run, f"stage-{after}")
        for part, cell in zip(recipe.rows, column.cells, strict=True):
            inside = [name for name in one if name.startswith(f"{part}.")]
            if inside:
                moved = any(not torch.equal(one[name], other[name]) for name in inside)
                yield after, part, cell.state, moved


@pytest.fixture
def fit(cli: CLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Run a toy in an empty folder; return its run folder."""
    pytest.importorskip("easy_vqa")
    monkeypatch.chdir(tmp_path)

    def run(name: str) -> Path:
        code, out, err = cli("fit", "--config", f"systems/{name}/toy")
        assert code == 0, err
        (tmp_path / "printed.txt").write_text(out + err)
        return tmp_path / "runs/systems" / name

    return run


@pytest.mark.parametrize("name", STAGED)
def test_a_system_trains_in_all_its_stages_and_answers(name: str, fit: Any, tmp_path: Path) -> None:
    run = fit(name)
    losses = steps_with_loss(run)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])

    config = read_fit_config(["--config", f"systems/{name}/toy"])
    recipe = make_recipe(recipe_source(config))
    if [column.name for column in recipe.columns] != [WHOLE_RUN]:
        for column in recipe.columns:
            assert (run / "checkpoints" / f"stage-{column.name}.ckpt").is_file()
        seen = list(moves(recipe, run))
        assert seen or len(recipe.columns) == 1
        for stage, part, said, moved in seen:
            assert moved == (said != "frozen"), (stage, part, said)

    answers = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert len(answers) > 100
    assert len({answer["generated"] for answer in answers}) > 1
    assert "test/accuracy" in (run / "metrics.csv").read_text()


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_towers_agree_on_what_pictures_show(name: str, fit: Any) -> None:
    run = fit(name)
    losses = steps_with_loss(run)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert zero_shot(run) > 0.15  # of 24 classes: 0.04 by chance


def test_a_locked_tower_stays_as_it_was(cli: CLI, fit: Any, tmp_path: Path) -> None:
    short = ("--trainer.max_steps", "60", "--test_after_fit", "false")
    code, _, err = cli("fit", "--config", "classify_easy_vqa", *short)
    assert code == 0, err
    run = fit("lit")
    before, after = state(tmp_path / "runs/classify_easy_vqa", "last"), state(run, "last")
    kept = [name for name in after if name.startswith("encoder.network.")]
    assert len(kept) > 40
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert zero_shot(run) > 0.1


def zero_shot(run: Path) -> float:
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row["test/zero_shot_top1"] for row in csv.DictReader(file)]
    return float(next(row for row in reversed(rows) if row))
