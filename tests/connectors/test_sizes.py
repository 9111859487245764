"""What the docs say that each connector makes of 576 tokens, and costs."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lit_vlm.connectors

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| (\d+) \| ([\d,]+) \|", re.MULTILINE)
TABLE = {
    name: (int(tokens), int(parameters.replace(",", "")))
    for name, tokens, parameters in ROW.findall((ROOT / "docs" / "connectors.md").read_text())
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "SequentialConnector": {
        "first": lit_vlm.connectors.CrossAttentionResampler,
        "then": lit_vlm.connectors.LinearConnector,
    }
}
OF_THEIR_PARTS = {"LinearConnector", "SequentialConnector", "TransformerConnector"}


def size_of(connector: nn.Module) -> int:
    return sum(parameter.numel() for parameter in connector.parameters())


def test_every_connector_has_its_line() -> None:
    assert {"Connector", *TABLE} == set(lit_vlm.connectors.__all__)


@pytest.mark.parametrize("name", TABLE)
def test_the_tokens_and_the_parameters_of_the_table_are_true(name: str) -> None:
    with torch.device("meta"):
        make = getattr(lit_vlm.connectors, name)
        connector = make(in_dim=1024, out_dim=4096, **ARGUMENTS.get(name, {}))
    assert (connector.num_tokens(576), size_of(connector)) == TABLE[name]


@pytest.mark.parametrize("name", sorted(TABLE.keys() - OF_THEIR_PARTS))
def test_docstrings_say_what_it_costs(name: str) -> None:
    said = getattr(lit_vlm.connectors, name).__doc__
    assert f"{TABLE[name][1] / 1e6:.1f} million" in " ".join(said.split())


@pytest.mark.parametrize(("depth", "millions"), [(0, 4.2), (1, 16.8), (2, 29.4)])
def test_each_block_of_the_transformer_costs_12_6_million(depth: int, millions: float) -> None:
    with torch.device("meta"):
        connector: Any = lit_vlm.connectors.TransformerConnector(1024, 4096, depth=depth)
    assert round(size_of(connector) / 1e6, 1) == millions


@pytest.mark.parametrize("depth", [2, 3])
def test_each_layer_of_a_deeper_resampler_has_12_times_the_squared_width(depth: int) -> None:
    with torch.device("meta"):
        connector = lit_vlm.connectors.CrossAttentionResampler(1024, 4096, depth=depth)
    norms = 3 * 2 * 4096
    assert size_of(connector.layers) == depth * (12 * 4096**2 + norms)
