from typing import Any

import pytest

from lit_vlm.part_rates import PartLR
from lit_vlm.recipe import Cell, Curve, Recipe, RecipeSource, make_recipe
from lit_vlm.stages import Stage

PARTS = ["encoder", "connector", "language_model"]


def recipe(stages: dict[str, Stage], **options: Any) -> Recipe:
    return make_recipe(RecipeSource(parts=PARTS, stages=stages, **options))


def cells(made: Recipe, stage: int) -> dict[str, Cell]:
    return dict(zip(made.rows, made.columns[stage].cells, strict=True))


def test_a_part_trains_in_the_stages_that_name_it() -> None:
    made = recipe(
        {"align": Stage(trains=["connector"], steps=1), "all": Stage(trains=["*"], steps=1)},
        learning_rate=0.5,
    )
    assert made.rows == PARTS
    frozen, trains = Cell("frozen"), Cell("trains", 0.5)
    assert made.columns[0].cells == [frozen, trains, frozen]
    assert made.columns[1].cells == [trains] * 3


def test_pieces_have_rows_below_their_part_which_then_trains_in_part() -> None:
    made = recipe(
        {
            "top": Stage(trains=["encoder.blocks.20-"], steps=1),
            "more": Stage(trains=["encoder"], keeps_frozen=["encoder.blocks.0-3"], steps=1),
        },
        learning_rate=0.5,
    )
    assert made.rows == ["encoder", "encoder.blocks.20-", "encoder.blocks.0-3", *PARTS[1:]]
    top, more = cells(made, 0), cells(made, 1)
    assert [top[row].state for row in made.rows[:3]] == ["in part", "trains", "frozen"]
    assert [more[row].state for row in made.rows[:3]] == ["in part", "trains", "frozen"]
    assert top["encoder"].rate is None
    assert more["encoder"].rate == 0.5


def test_what_stands_beside_the_parts_has_a_row_too() -> None:
    assert recipe({"a": Stage(trains=["logit_scale"])}).rows == [*PARTS, "logit_scale"]


def test_rates_are_the_stages_then_the_modules_times_the_multiplier() -> None:
    stages = {
        "own": Stage(trains=["*"], learning_rate=1.0, steps=1),
        "some": Stage(trains=["*"], learning_rates={"*": 3.0, "encoder": 2.0}, steps=1),
        "module": Stage(trains=["*"], steps=1),
    }
    rates = {
        "encoder": PartLR(multiplier=0.1, layer_decay=0.75),
        "encoder.norm": PartLR(multiplier=0.5),
    }
    made = recipe(stages, rates=rates, learning_rate=10.0)
    own, some, module = (cells(made, place) for place in range(3))
    assert own["encoder"] == Cell("trains", 0.1, "×0.1, decay 0.75")
    assert own["encoder.norm"] == Cell("trains", 0.5, "×0.5")
    assert own["connector"] == Cell("trains", 1.0)
    assert some["encoder"] == Cell("trains", 2.0)  # final: no multiplier counts
    assert some["connector"] == Cell("trains", 3.0)
    assert module["encoder"].rate == pytest.approx(1.0)


def test_a_rate_that_the_module_keeps_to_itself_is_not_invented() -> None:
    made = recipe({"a": Stage(trains=["*"])})
    assert set(made.columns[0].cells) == {Cell("trains")}
    assert made.columns[0].curve is None


def test_says_that_adapters_train_in_place_of_a_part() -> None:
    made = recipe({"a": Stage(trains=["*"])}, adapted=["language_model"])
    assert cells(made, 0)["language_model"].note == "adapters"


def test_curves_are_the_stages_over_the_modules() -> None:
    stages = {
        "a": Stage(trains=["*"], steps=1),
        "b": Stage(trains=["*"], steps=1, warmup=5, schedule="linear", min_learning_rate=0.0),
    }
    made = recipe(stages, curve=Curve(0.1, "cosine", 0.2))
    assert [column.curve for column in made.columns] == [
        Curve(0.1, "cosine", 0.2),
        Curve(5, "linear", 0.0),
    ]
    [column] = recipe({"a": Stage(trains=["*"], learning_rate=1.0)}).columns
    assert column.curve == Curve(0, "constant", 0.0)


def test_says_what_a_stage_changes_about_batches() -> None:
    stage = Stage(
        trains=["*"], image_size=448, batch_size=8, accumulate_grad_batches=2, data=["a", "b"]
    )
    [column] = recipe({"a": stage}).columns
    assert column.extras == ["448 px", "batches of 8", "2 batches a step", "data: a, b"]


def test_what_a_run_would_refuse_is_refused_here_too() -> None:
    stages = {"one": Stage(trains=["encodr"])}
    with pytest.raises(ValueError, match=r"got 'encodr'\. Did you mean: encoder\?"):
        recipe(stages)
    stages = {"one": Stage(trains=["encoder"]), "two": Stage(trains=["encoder"], steps=2)}
    with pytest.raises(ValueError, match="must have a length, got none for 'one'"):
        recipe(stages)
