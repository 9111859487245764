import warnings
from typing import Any

import pytest

from lit_vlm.replaced_source import drop_metrics_of_replaced


def data(metrics: Any) -> dict[str, Any]:
    return {
        "init_args": {"train": {"a": 1}, "val": 2, "test": {"a": 1, "b": 1}, "metrics": metrics}
    }


def test_metrics_of_sources_that_are_gone_are_dropped() -> None:
    given = data({"a": "CIDEr", "b": "BoxAccuracy", "": "ExactMatch"})
    with pytest.warns(UserWarning, match="those of b are left out"):
        drop_metrics_of_replaced(given, "test")
    assert given["init_args"]["metrics"] == {"a": "CIDEr", "": "ExactMatch"}
    with pytest.warns(UserWarning, match="Choose others with --data.metrics"):
        drop_metrics_of_replaced(alone := data({"b": "CIDEr"}), "test")
    assert alone["init_args"]["metrics"] is None


@pytest.mark.parametrize(
    ("metrics", "stage"),
    [
        ({"b": "CIDEr"}, "train"),
        ({"a": "CIDEr"}, "test"),
        ({"class_path": "CIDEr"}, "test"),
        (["CIDEr"], "test"),
        (None, "test"),
    ],
)
def test_other_metrics_stay(metrics: Any, stage: str) -> None:
    given = data(metrics)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drop_metrics_of_replaced(given, stage)
    assert given == data(metrics)
