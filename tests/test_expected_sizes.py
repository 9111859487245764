from collections.abc import Callable
from typing import Any

import pytest
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from lit_vlm.expected_sizes import check_expected

SIZES: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
MAKE: Callable[[Any], nn.Module] = LlamaForCausalLM


def check(given: dict[str, Any], held: dict[str, Any]) -> None:
    expected, found = LlamaConfig(**SIZES | given), LlamaConfig(**SIZES | held)
    check_expected("Reader", [*SIZES, *given], expected, found, "weights", MAKE)


def test_what_is_not_said_may_differ_where_no_shape_does() -> None:
    check({}, {"rms_norm_eps": 1e-5, "rope_theta": 5e5, "bos_token_id": 3, "dtype": "bfloat16"})


@pytest.mark.parametrize(
    "given",
    [
        {"rms_norm_eps": 1e-6},
        {"rope_theta": 1e4},
        {"dtype": "float16", "architectures": ["LlamaModel"], "use_cache": False},
    ],
    ids=["a field", "a field that becomes another", "what is no size"],
)
def test_what_is_said_and_holds_passes(given: dict[str, Any]) -> None:
    check(given, {"dtype": "bfloat16"})


@pytest.mark.parametrize(
    ("given", "held", "words"),
    [
        ({"rms_norm_eps": 1e-6}, {"rms_norm_eps": 1e-5}, "rms_norm_eps=1e-06, and they have 1e-05"),
        ({"rope_theta": 1e4}, {"rope_theta": 5e5}, "rope_parameters=.*10000.*they have .*500000"),
        ({}, {"tie_word_embeddings": True}, "tie_word_embeddings=False, and they have True"),
    ],
    ids=["a field", "a field that becomes another", "a field that is never left out"],
)
def test_what_is_said_and_does_not_hold_is_named(
    given: dict[str, Any], held: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=f"Reader: config must say what the .* are, got {words}"):
        check(given, held)


def test_a_shape_that_follows_from_what_is_not_said_is_named() -> None:
    message = r"no tensor for model.layers.1.* and theirs has the shape \(8, 8\)"
    expected = LlamaConfig(
        **{k: v for k, v in SIZES.items() if k != "num_hidden_layers"} | {"num_hidden_layers": 1}
    )
    found = LlamaConfig(**SIZES | {"num_hidden_layers": 2})
    given = [name for name in SIZES if name != "num_hidden_layers"]
    with pytest.raises(ValueError, match=message):
        check_expected("Reader", given, expected, found, "weights", MAKE)
