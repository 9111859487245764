"""PixelShuffleConnector against transformers' connectors of Idefics3 and SmolVLM."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import Idefics3Config, SmolVLMConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMConnector

from lit_vlm.connectors import PixelShuffleConnector

IN, OUT = 8, 12
THEIRS = pytest.mark.parametrize(
    ("connector_class", "config_class"),
    [(Idefics3Connector, Idefics3Config), (SmolVLMConnector, SmolVLMConfig)],
    ids=["Idefics3", "SmolVLM"],
)
SIZES = pytest.mark.parametrize(("scale", "side"), [(1, 3), (2, 4), (2, 6), (3, 6), (4, 4)])


@THEIRS
@SIZES
def test_values_and_gradients_are_transformers(
    connector_class: Any, config_class: Any, scale: int, side: int
) -> None:
    torch.manual_seed(0)
    config = config_class(
        vision_config={"hidden_size": IN},
        text_config={"model_type": "llama", "hidden_size": OUT, "num_attention_heads": 2},
        scale_factor=scale,
    )
    theirs = connector_class(config)
    ours = PixelShuffleConnector(IN, OUT, scale=scale)
    projection: nn.Linear = theirs.modality_projection.proj
    ours.project.load_state_dict(projection.state_dict())

    tokens = torch.randn(2, side**2, IN, requires_grad=True)
    others = tokens.detach().clone().requires_grad_()
    output, expected = ours(tokens), theirs(others)
    assert_close(output, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(output)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_close(tokens.grad, others.grad, atol=1e-5, rtol=1e-5)
    assert_close(ours.project.weight.grad, projection.weight.grad, atol=1e-5, rtol=1e-5)
