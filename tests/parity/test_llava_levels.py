"""Several layers of the tower as transformers' LLaVA has them, against ``ConcatLevels``."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from lit_vlm.fusions import ConcatLevels

DEPTH, DIM = 6, 16


def llava_with(layers: list[int]) -> Any:
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=DIM,
            intermediate_size=4 * DIM,
            num_hidden_layers=DEPTH,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
        ),
        text_config=LlamaConfig(
            vocab_size=300,
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=4,
        ),
        vision_feature_layer=layers,
        vision_feature_select_strategy="default",
        image_token_index=299,
    )
    model: Any = LlavaForConditionalGeneration(config).eval()
    for parameter in model.parameters():  # initial norms are 1 and biases 0: hide no mistake
        nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.2)
    return model


@pytest.mark.parametrize("layers", [[-2, -5], [-5, -2], [-2, 1, 0], [-3]], ids=str)
@torch.no_grad()
def test_levels_are_concatenated_as_in_llava(layers: list[int]) -> None:
    llava = llava_with(layers)
    pixels = torch.randn(2, 3, 16, 16)
    states = llava.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    assert len(states) == DEPTH + 1
    fusion = ConcatLevels([[DIM] * len(layers)])
    fused = fusion(tuple(states[layer][:, 1:] for layer in layers))  # without CLS
    got = llava.model.multi_modal_projector(fused)
    expected = torch.stack(list(llava.get_image_features(pixels).pooler_output))
    assert expected.shape == (2, 4, 24)
    assert_close(got, expected, atol=1e-5, rtol=1e-5)

    turned = torch.cat([*fused.split(DIM, dim=-1)][::-1], dim=-1)
    if len(layers) > 1:
        other = llava.model.multi_modal_projector(turned)
        assert (other - expected).abs().max() > 0.1, "another order must show"
