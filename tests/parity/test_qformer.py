"""QFormerConnector against what transformers' BLIP-2 hands to its language model."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import Blip2Config, Blip2ForConditionalGeneration

from lit_vlm.connectors import QFormerConnector

WIDTH, OUT, QUERIES, DEPTH = 12, 16, 5, 3


def blip2(frequency: int) -> Any:
    torch.manual_seed(0)
    config = Blip2Config(
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
        },
        qformer_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": 3,
            "cross_attention_frequency": frequency,
        },
        text_config={
            "model_type": "opt",
            "vocab_size": 30,
            "hidden_size": OUT,
            "word_embed_proj_dim": OUT,
            "ffn_dim": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        num_query_tokens=QUERIES,
    )
    network: Any = Blip2ForConditionalGeneration(config).eval()
    for parameter in network.parameters():  # initial norms are 1 and biases 0: hide no mistake
        nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.3)
    return network


def with_weights_of(network: Any, frequency: int) -> QFormerConnector:
    connector = QFormerConnector(
        8,
        OUT,
        num_queries=QUERIES,
        depth=DEPTH,
        width=WIDTH,
        num_heads=3,
        cross_attention_frequency=frequency,
    )
    connector.qformer.load_state_dict(network.qformer.state_dict())
    connector.project.load_state_dict(network.language_projection.state_dict())
    with torch.no_grad():
        connector.queries.copy_(network.query_tokens[0])
    return connector


@pytest.mark.parametrize("frequency", [1, 2])
def test_values_and_gradients_are_blip_2s(frequency: int) -> None:
    network = blip2(frequency)
    connector = with_weights_of(network, frequency)
    features = network.get_image_features(torch.randn(3, 3, 16, 16))
    tokens = features.last_hidden_state.detach()  # normed by the vision model
    output, expected = connector(tokens), features.pooler_output
    assert expected.std() > 0.1, "the tokens must say something"
    assert_close(output, expected, atol=1e-5, rtol=1e-5)

    weights = torch.randn_like(output) / OUT
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_close(connector.queries.grad, network.query_tokens.grad[0], atol=1e-5, rtol=1e-5)
    of_theirs = {f"qformer.{name}": w.grad for name, w in network.qformer.named_parameters()}
    projection = network.language_projection.named_parameters()
    of_theirs |= {f"project.{name}": weight.grad for name, weight in projection}
    assert len(of_theirs) + 1 == len(list(connector.parameters()))
    for name, gradient in of_theirs.items():
        ours = connector.get_parameter(name).grad
        assert_close(ours, gradient, atol=1e-5, rtol=1e-4, msg=name)
