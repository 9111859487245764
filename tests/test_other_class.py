from typing import Any

import pytest

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
