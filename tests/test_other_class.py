import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_vlm.config_reader import read_fit_config


def connector(*words: str) -> dict[str, Any]:
    config = read_fit_config(["--config", "quickstart", *words])
    found: dict[str, Any] = config["model"]["init_args"]["connector"]
    return found


def test_another_connector_has_its_own_depth() -> None:
    found = connector("--model.connector", "CrossAttentionResampler")
    assert found["class_path"] == "lit_vlm.connectors.CrossAttentionResampler"
    assert found["init_args"]["depth"] == 1


@pytest.mark.parametrize("depth", [1, 3])
def test_what_somebody_gave_is_carried_over(depth: int) -> None:
    given = ("--model.connector.depth", str(depth))
    found = connector(*given, "--model.connector", "CrossAttentionResampler")
    assert found["init_args"]["depth"] == depth


SOURCE = {"class_path": "JSONConversations", "init_args": {"path": "all.jsonl"}}
BY_NAME = {"test": {"a": {**SOURCE}, "b": {**SOURCE}}, "metrics": {"a": "CIDEr", "b": "CIDEr"}}
ALONE = {"test": SOURCE, "metrics": "BoxAccuracy"}


def data(folder: Path, configs: list[dict[str, Any]], *words: str) -> dict[str, Any]:
    """Return the arguments of a data module that several files and options speak of."""
    given = ["--config", "quickstart"]
    for number, init_args in enumerate(configs):
        spec = {"class_path": "ConversationDataModule", "init_args": init_args}
        (folder / f"{number}.yaml").write_text(yaml.safe_dump({"data": spec}))
        given += ["--config", str(folder / f"{number}.yaml")]
    found: dict[str, Any] = read_fit_config([*given, *words])["data"]["init_args"]
    return found


@pytest.mark.parametrize(
    "words",
    [
        ["--data.test", "JSONConversations", "--data.test.path", "all.jsonl"],
        ["--data.test", json.dumps(SOURCE)],
    ],
)
def test_a_source_takes_the_place_of_sources_by_name(tmp_path: Path, words: list[str]) -> None:
    found = data(tmp_path, [BY_NAME], *words, "--data.metrics", "BoxAccuracy")
    assert found["test"]["class_path"] == "lit_vlm.data.JSONConversations"
    assert found["test"]["init_args"]["path"] == "all.jsonl"
    assert found["metrics"]["class_path"] == "lit_vlm.metrics.BoxAccuracy"


def test_the_last_file_says_whether_sources_have_names(tmp_path: Path) -> None:
    alone = data(tmp_path, [BY_NAME, ALONE])
    assert alone["test"]["init_args"]["path"] == "all.jsonl"
    assert alone["metrics"]["class_path"] == "lit_vlm.metrics.BoxAccuracy"
    named = data(tmp_path, [ALONE, BY_NAME])
    assert (list(named["test"]), list(named["metrics"])) == (["a", "b"], ["a", "b"])


def test_one_of_the_sources_by_name_is_changed_by_its_name(tmp_path: Path) -> None:
    found = data(tmp_path, [BY_NAME], "--data.test.b.path", "b.jsonl")["test"]
    assert [found[name]["init_args"]["path"] for name in "ab"] == ["all.jsonl", "b.jsonl"]
