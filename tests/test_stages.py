from typing import Any

import pytest

from lit_vlm.stages import Stage, StagePlan


def test_a_position_is_a_function_of_the_step() -> None:
    plan = StagePlan({"one": 3, "two": 2})
    assert [plan.at(step).name for step in range(7)] == ["one"] * 3 + ["two"] * 4
    assert [(p.place, p.begin, p.length) for p in plan.positions] == [(0, 0, 3), (1, 3, 2)]
    assert plan.total == 5
    assert StagePlan({"one": 3, "two": None}).total is None


def test_an_end_is_the_step_after_which_another_stage_begins() -> None:
    plan = StagePlan({"one": 3, "two": 2, "three": None})
    ends = [plan.ends_at(step) for step in range(8)]
    assert [end and end.name for end in ends] == [None] * 3 + ["one", None, "two", None, None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trains": []}, "trains must name what trains"),
        ({"steps": 1, "share": 0.5}, "must be given once, got steps and share"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, got -1"),
        ({"share": 1.5}, "share must be above 0 and at most 1, got 1.5"),
        ({"learning_rate": 0.0}, "learning rates must be positive, got 0.0"),
        ({"learning_rates": {"head": -1.0}}, "learning rates must be positive, got -1.0"),
        ({"warmup": 1.0}, "warmup must be a number of steps or a share below 1, got 1.0"),
        ({"min_learning_rate": 2.0}, "between 0 and 1, got 2.0"),
    ],
)
def test_refuses_what_makes_no_stage(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stage(**{"trains": ["head"], **options})


def test_knows_whether_it_changes_the_batches() -> None:
    assert not Stage(trains=["head"], steps=2, learning_rate=0.1).changes_data
    for change in ({"batch_size": 2}, {"accumulate_grad_batches": 2}, {"data": ["a"]}):
        assert Stage(trains=["head"], **change).changes_data
    assert Stage(trains=["head"], image_size=32).changes_data
