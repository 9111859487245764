from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from lit_vlm.config_reader import read_fit_config
from lit_vlm.merged_plans import merged_plans

CLI = Callable[..., tuple[int, str, str]]


def stages(**plans: Any) -> dict[str, Any]:
    return {"staged_freezing": {"stages": plans}}


def test_later_files_change_fields_and_add_names() -> None:
    one = stages(align={"trains": ["connector"], "steps": 5}, tune={"steps": 6})
    two = stages(tune={"steps": 7, "warmup": 2}, eyes={"steps": 1})
    assert merged_plans([one, {"trainer": {}}, two]) == stages(
        align={"trains": ["connector"], "steps": 5},
        tune={"steps": 7, "warmup": 2},
        eyes={"steps": 1},
    )


def test_one_file_alone_and_null_say_nothing_more() -> None:
    one = stages(align={"steps": 5})
    assert merged_plans([one, {"model": {}}]) == {}
    assert merged_plans([one, {"staged_freezing": {"stages": None}}]) == {}
    assert merged_plans([one, {"staged_freezing": None}]) == {}


def test_a_second_config_changes_one_stage_of_the_first(tmp_path: Path) -> None:
    tune = {"steps": "${vars.steps}"}
    rates = {"pretrained_lr": {"parts": {"connector": {"multiplier": 0.5}}}}
    second = {"vars": {"steps": 77}, **stages(tune=tune), **rates}
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(second))
    config = read_fit_config(["--config", "llava", "--config", str(tmp_path / "second.yaml")])
    plans = config["staged_freezing"]["stages"]
    assert list(plans) == ["align", "tune"]
    assert (plans["align"]["steps"], plans["tune"]["steps"]) == (200, 77)
    assert plans["tune"]["trains"] == ["connector", "language_model"]
    assert config["pretrained_lr"]["parts"]["connector"]["multiplier"] == 0.5
