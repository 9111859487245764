from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import Blip2QFormerConfig

from lit_vlm.connectors import QFormerConnector
from lit_vlm.testing import check_connector

SMALL: dict[str, Any] = {"num_queries": 3, "depth": 2, "width": 16, "num_heads": 2}


@pytest.mark.parametrize("num_patches", [1, 6, 16])
@pytest.mark.parametrize("frequency", [1, 2, 3])
def test_contract(num_patches: int, frequency: int) -> None:
    connector = QFormerConnector(8, 12, **SMALL, cross_attention_frequency=frequency)
    check_connector(connector, num_patches)


def test_the_order_of_the_tokens_does_not_matter() -> None:
    torch.manual_seed(0)
    connector = QFormerConnector(8, 12, **SMALL)
    tokens = torch.randn(1, 6, 8)
    assert_close(connector(tokens), connector(tokens.flip(1)), atol=1e-5, rtol=1e-5)


def test_a_query_that_is_the_same_as_another_reads_the_same() -> None:
    torch.manual_seed(0)
    connector = QFormerConnector(8, 12, **SMALL)
    with torch.no_grad():
        connector.queries[2] = connector.queries[0]
    first, other, same = connector(torch.randn(1, 6, 8))[0]
    assert_close(first, same, atol=1e-5, rtol=1e-5)
    assert (first - other).abs().max() > 1e-3


@pytest.mark.parametrize(("frequency", "reading"), [(1, [0, 1, 2]), (2, [0, 2]), (3, [0])])
def test_reads_the_tokens_in_every_so_many_layers(frequency: int, reading: list[int]) -> None:
    sizes = {**SMALL, "depth": 3, "cross_attention_frequency": frequency}
    layers = QFormerConnector(8, 12, **sizes).qformer.encoder.layer
    assert [k for k, layer in enumerate(layers) if layer.has_cross_attention] == reading


def test_dropout_is_off_unless_asked_for() -> None:
    tokens = torch.randn(1, 6, 8)
    for dropout, same in ((0.0, True), (0.5, False)):
        connector = QFormerConnector(8, 12, **SMALL, dropout=dropout).train()
        assert torch.equal(connector(tokens), connector(tokens)) is same
        config = connector.qformer.config
        assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (dropout,) * 2


def test_blip_2s_sizes_are_the_defaults() -> None:
    with torch.device("meta"):
        config = QFormerConnector(in_dim=1408, out_dim=16).qformer.config
    theirs = Blip2QFormerConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    assert config.to_diff_dict() == theirs.to_diff_dict()


@pytest.mark.parametrize("name", ["num_queries", "depth", "width", "cross_attention_frequency"])
def test_refuses_numbers_below_1(name: str) -> None:
    message = f"QFormerConnector: {name} must be at least 1, got 0"
    sizes: dict[str, Any] = {**SMALL, name: 0}
    with pytest.raises(ValueError, match=message):
        QFormerConnector(8, 12, **sizes)


def test_refuses_heads_that_do_not_divide_the_width() -> None:
    message = "QFormerConnector: num_heads must divide the width 16, got 3. Leave it out for 1"
    with pytest.raises(ValueError, match=message):
        QFormerConnector(8, 12, width=16, num_heads=3)
