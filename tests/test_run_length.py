import math
from typing import Any

import pytest
from lightning import Trainer

from lit_vlm.run_length import steps_of_run, steps_per_epoch


def trainer(batches: int | float = 10, **options: Any) -> Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False}
    quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
    made = Trainer(accelerator="cpu", **quiet, **options)
    made.fit_loop.max_batches = batches
    return made


def test_the_last_window_of_a_pass_may_be_shorter() -> None:
    assert steps_per_epoch(trainer(accumulate_grad_batches=4)) == 3
    assert steps_per_epoch(trainer()) == 10


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_epochs": 3}, 30),
        ({"max_steps": 7}, 7),
        ({"max_epochs": 3, "max_steps": 7}, 7),
        ({"max_epochs": 3, "max_steps": 70, "accumulate_grad_batches": 4}, 9),
        ({"max_epochs": -1}, math.inf),
    ],
)
def test_a_run_ends_with_its_first_limit(options: dict[str, Any], steps: float) -> None:
    assert steps_of_run(trainer(**options)) == steps


def test_data_without_a_length_make_no_epochs() -> None:
    assert steps_of_run(trainer(math.inf, max_epochs=3)) == math.inf
    assert steps_of_run(trainer(math.inf, max_epochs=3, max_steps=5)) == 5
