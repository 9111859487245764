"""TextEncoder against the text towers of transformers and open_clip with the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.transformer import TextTransformer
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    SiglipTextConfig,
    SiglipTextModel,
)

from lit_vlm.language_models import TextEncoder

SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 8,
    "bos_token_id": 28,
    "pad_token_id": 0,
}
LENGTHS = (3, 8, 5)
END = 29


def stirred(network: Any) -> Any:
    """Return a network whose initial norms and biases, being 1 and 0, hide no mistake."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return network


def saved(network: Any, folder: Path) -> Any:
    torch.manual_seed(0)
    stirred(network).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "a": 1, "<unk>": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", eos_token="<pad>"
    ).save_pretrained(folder)
    return network


def some_texts(pad: int = 0) -> tuple[Tensor, Tensor]:
    ids = torch.full((len(LENGTHS), 8), pad)
    mask = torch.zeros(len(LENGTHS), 8, dtype=torch.long)
    for place, length in enumerate(LENGTHS):
        ids[place, : length - 1] = torch.randint(3, 28, (length - 1,))
        ids[place, length - 1] = END
        mask[place, :length] = 1
    return ids, mask


def check_same(ours: TextEncoder, found: Tensor, theirs: Any, expected: Tensor) -> None:
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(found)
    torch.autograd.backward([found, expected], [weights, weights])
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.network.named_parameters():
        assert_close(parameter.grad, gradients[name].grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("end", [END, 2])
@pytest.mark.parametrize("pad", [0, END])
def test_clip(tmp_path: Path, end: int, pad: int) -> None:
    # The tower of OpenAI's says 2 and means the highest number; its padding is the end token, too.
    network = saved(CLIPTextModel(CLIPTextConfig(eos_token_id=end, **SIZES)), tmp_path)
    ids, mask = some_texts(pad)
    ours = TextEncoder(tmp_path)
    expected = network(ids, attention_mask=mask).pooler_output
    check_same(ours, ours(ids, mask), network, expected)


def test_siglip(tmp_path: Path) -> None:
    sizes = SIZES | {"projection_size": 24}
    network = saved(SiglipTextModel(SiglipTextConfig(eos_token_id=END, **sizes)), tmp_path)
    ids, mask = some_texts()
    ours = TextEncoder(tmp_path)
    assert ours.dim == 24
    check_same(ours, ours(ids, mask), network, network(ids).pooler_output)


@pytest.mark.parametrize("pooling", [None, "first", "mean"])
def test_bert(tmp_path: Path, pooling: Any) -> None:
    config = BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SIZES)
    network = saved(BertModel(config), tmp_path)
    ids, mask = some_texts()
    ours = TextEncoder(tmp_path, pooling=pooling)
    tokens = network(ids, attention_mask=mask).last_hidden_state
    expected = tokens[:, 0]
    if pooling == "mean":
        expected = torch.stack([t[:n].mean(0) for t, n in zip(tokens, LENGTHS, strict=True)])
    check_same(ours, ours(ids, mask), network, expected)


@torch.no_grad()
def test_open_clip() -> None:
    torch.manual_seed(0)
    theirs = stirred(
        TextTransformer(8, vocab_size=30, width=32, heads=2, layers=3, output_dim=32, pad_id=0)
    )
    theirs.text_projection = nn.Parameter(torch.eye(32))  # what is behind the tower is the head's
    sizes = SIZES | {"intermediate_size": 128, "hidden_act": "gelu"}
    ours = TextEncoder(config=sizes)
    ours.network.load_state_dict(renamed(theirs.state_dict()))
    ids, mask = some_texts()
    assert_close(ours.eval()(ids, mask), theirs.eval()(ids), rtol=1e-5, atol=1e-5)


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return open_clip's tensors under transformers' names."""
    moved = {
        "embeddings.token_embedding.weight": state["token_embedding.weight"],
        "embeddings.position_embedding.weight": state["positional_embedding"],
    }
    names = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "attn.out_proj": "self_attn.out_proj",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for kind in ("weight", "bias"):
        moved[f"final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
        for layer in range(3):
            block, old = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
            for part, tensor in zip(
                "qkv", state[f"{old}.attn.in_proj_{kind}"].chunk(3), strict=True
            ):
                moved[f"{block}.self_attn.{part}_proj.{kind}"] = tensor
            for theirs, ours in names.items():
                moved[f"{block}.{ours}.{kind}"] = state[f"{old}.{theirs}.{kind}"]
    return moved
