import re
from pathlib import Path

import matplotlib
import pytest

from lit_vlm.part_rates import PartLR
from lit_vlm.recipe import Curve, RecipeSource, make_recipe
from lit_vlm.recipe_figure import column_widths, curve_points, draw_recipe, rate_text
from lit_vlm.recipe_lengths import Length
from lit_vlm.stages import Stage


def steps(*amounts: int) -> list[Length]:
    return [Length(amount, "steps", "") for amount in amounts]


def test_widths_follow_the_lengths() -> None:
    assert column_widths(steps(300, 100)) == pytest.approx([0.75, 0.25])
    assert column_widths([Length(0.5, "share", ""), Length(0.5, "share", "")]) == [0.5, 0.5]


def test_short_stages_are_widened_and_the_rest_shrinks() -> None:
    narrow, middle, wide = column_widths(steps(1, 3000, 6000))
    assert narrow == pytest.approx(0.18)
    assert wide == pytest.approx(2 * middle)
    assert narrow + middle + wide == pytest.approx(1)
    assert column_widths(steps(*[1] * 9, 1000)) == pytest.approx([0.1] * 10)


@pytest.mark.parametrize("amount", [None, 3.0])
def test_widths_are_equal_where_lengths_cannot_be_compared(amount: float | None) -> None:
    assert column_widths([Length(amount, "epochs", ""), *steps(100)]) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("rate", "text"), [(2e-5, "2e-5"), (0.001, "1e-3"), (1.5e-4, "1.5e-4"), (1.0, "1e0")]
)
def test_writes_rates_as_people_do(rate: float, text: str) -> None:
    assert rate_text(rate) == text


def test_curves_are_the_schedule_over_the_stage() -> None:
    assert curve_points(Curve(2, "linear", 0.0), *steps(6)) == [0.5, 1, 1, 0.75, 0.5, 0.25]
    share = curve_points(Curve(0.5, "constant", 0.0), Length(1, "epochs", ""))
    assert share is not None
    assert share[0] < share[len(share) // 4] < share[-1] == 1
    long = curve_points(Curve(100, "linear", 0.0), *steps(100_000))
    assert long is not None
    assert len(long) == 400


def test_a_warm_up_in_steps_of_an_unknown_length_has_no_curve() -> None:
    assert curve_points(Curve(100, "cosine", 0.0), Length(1, "epochs", "")) is None


STAGES = {
    "first": Stage(trains=["encoder.blocks.2-", "connector"], steps=10, warmup=2),
    "second": Stage(trains=["*"], keeps_frozen=["connector.norm"], epochs=1, warmup=2),
    "third": Stage(trains=["*"], image_size=448),
}
SOURCE = RecipeSource(
    parts=["encoder", "connector"],
    stages=STAGES,
    rates={"encoder": PartLR(multiplier=0.1)},
    learning_rate=1.0,
)


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_draws_files_of_the_kind_that_is_asked_for(tmp_path: Path, kind: str) -> None:
    draw_recipe(make_recipe(SOURCE), tmp_path / f"recipe.{kind}")
    start = {"png": b"\x89PNG", "pdf": b"%PDF"}[kind]
    assert (tmp_path / f"recipe.{kind}").read_bytes().startswith(start)


def test_says_who_trains_how_long_and_how_fast(tmp_path: Path) -> None:
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # words, not their outlines
        draw_recipe(make_recipe(SOURCE), tmp_path / "recipe.svg")
    words = re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "recipe.svg").read_text())
    wanted = ["first", "10 steps", "1 epoch", "the rest", "448 px", "encoder", "↳ blocks.2-"]
    wanted += ["1e-1", "×0.1", "in part", "frozen", "2 steps of warm-up, constant"]
    assert set(wanted) <= set(words)
    assert words.count("as the module says") == 1
