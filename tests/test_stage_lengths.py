from typing import Any

import pytest
from lightning import Trainer

from lit_vlm.stage_lengths import check_lengths, next_batches, plan_of_data, plan_of_run
from lit_vlm.stages import Stage


def stage(**length: Any) -> Stage:
    return Stage(trains=["head"], **length)


def trainer(**options: Any) -> Any:
    """Return what is asked of a trainer with ten batches a pass."""
    made = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": -1, **options},
    )
    made.fit_loop.max_batches = 10
    return made


def lengths(plan: Any) -> list[int | None]:
    return [position.length for position in plan.positions]


def test_steps_passes_and_shares_become_steps_of_the_run() -> None:
    stages = {"a": stage(steps=7), "b": stage(epochs=2), "c": stage(share=0.25), "d": stage()}
    assert lengths(plan_of_run(stages, trainer(max_steps=100))) == [7, 20, 25, 48]
    assert lengths(plan_of_run(stages, trainer(max_epochs=8))) == [7, 20, 20, 33]
    halved = trainer(max_epochs=8, accumulate_grad_batches=4)
    assert lengths(plan_of_run(stages, halved)) == [7, 6, 6, 5]


def test_the_last_stage_may_have_no_end() -> None:
    assert lengths(plan_of_run({"a": stage(steps=7), "b": stage()}, trainer())) == [7, None]


def test_a_stage_that_begins_after_the_run_ends_has_a_length_still() -> None:
    stages = {"a": stage(steps=7), "b": stage()}
    assert lengths(plan_of_run(stages, trainer(max_steps=5))) == [7, 1]


def test_a_share_of_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="length of stage 'b' must be known"):
        plan_of_run({"a": stage(steps=7), "b": stage(share=0.5)}, trainer())


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"a": stage(), "b": stage(steps=2)}, "must have a length, got none for 'a'"),
        ({"a": stage(share=0.7), "b": stage(share=0.4)}, "at most 1, got 1.1"),
    ],
)
def test_refuses_lengths_that_make_no_plan(stages: dict[str, Stage], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_lengths(stages)


def test_batches_follow_from_the_step_where_each_stage_has_its_own() -> None:
    stages = {"a": stage(epochs=2, batch_size=2), "b": stage(steps=5, accumulate_grad_batches=3)}
    batches = {"a": 4, "b": 7}
    plan = plan_of_data(stages, trainer(), batches, accumulate=2)
    assert lengths(plan) == [4, 5]

    def ahead(step: int) -> tuple[int, int, int]:
        return next_batches(stages, plan, step, batches, accumulate=2)[1:]

    # a: passes of 4 batches in 2 steps; b: passes of 7 batches in 3 steps, of 3, 3 and 1.
    assert [ahead(step) for step in range(9)] == [
        (0, 0, 4),
        (0, 2, 4),
        (1, 0, 4),
        (1, 2, 4),
        (2, 0, 7),
        (2, 3, 7),
        (2, 6, 7),
        (3, 0, 6),  # the stage ends with this pass's second step
        (3, 3, 6),
    ]


def test_shares_of_the_whole_run_end_with_it() -> None:
    for shares, run in (((0.33, 0.33, 0.34), 50), ((0.5, 0.5), 5), ((0.1,) * 10, 7)):
        stages = {str(place): stage(share=share) for place, share in enumerate(shares)}
        assert plan_of_run(stages, trainer(max_steps=run)).total == max(run, len(shares))
