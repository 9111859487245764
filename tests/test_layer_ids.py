from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lit_vlm.encoders import CLIPEncoder, DINOv2Encoder, EnsembleEncoder, SigLIPEncoder, TimmEncoder
from lit_vlm.language_models import CausalLanguageModel, Seq2SeqLanguageModel
from lit_vlm.layer_ids import layer_ids

SIZES: dict[str, Any] = {"embed_dim": 24, "depth": 3, "num_heads": 2}
GREY: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 64,
    "n_embd": 16,
    "n_layer": 3,
    "n_head": 2,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
T5: dict[str, Any] = {
    "model_type": "t5",
    "vocab_size": 64,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 2,
}
BART: dict[str, Any] = {
    "model_type": "bart",
    "vocab_size": 64,
    "d_model": 16,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "max_position_embeddings": 64,
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)


class Scale(nn.Module):
    """A module with tensors of its own, listed before everything that is inside."""

    def __init__(self, names: list[str], **children: nn.Module) -> None:
        super().__init__()
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.zeros(2, 2)))
        for name, child in children.items():
            self.add_module(name, child)


def blocks(count: int) -> nn.ModuleList:
    return nn.ModuleList(Block() for _ in range(count))


def tower(names: list[str], **after: nn.Module) -> Scale:
    return Scale(names, stem=nn.Linear(2, 2), blocks=blocks(2), norm=nn.LayerNorm(2), **after)


def by_prefix(part: nn.Module, depth: int) -> dict[str, int]:
    """Return the place of what shares the first pieces of its name, which must be one place."""
    found: dict[str, int] = {}
    for name, place in layer_ids(part).items():
        prefix = ".".join(name.split(".")[:depth])
        assert found.setdefault(prefix, place.id) == place.id, f"{prefix} has two places"
    return found


ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "clip": lambda: CLIPEncoder({**SIZES, "patch_size": 8}, image_size=32, pool=True),
    "siglip": lambda: SigLIPEncoder({**SIZES, "patch_size": 8}, image_size=32, pool=True),
    "dinov2 by transformers": lambda: DINOv2Encoder(
        "dinov2_vits14_reg", config=SIZES, image_size=56, pool=True
    ),
    "dinov2 by timm": lambda: DINOv2Encoder(
        "dinov2_vits14_reg", port="timm", config=SIZES, image_size=56, pool=True
    ),
    "timm": lambda: TimmEncoder("test_vit", image_size=32, config={**SIZES, "depth": 3}, **GREY),
}


@pytest.mark.parametrize("make", ENCODERS.values(), ids=list(ENCODERS))
def test_encoders_go_from_the_embeddings_over_the_blocks_to_the_outputs(
    make: Callable[[], nn.Module],
) -> None:
    encoder = make()
    outputs = ("norm", "head", "post_layernorm", "layernorm")
    for name, place in layer_ids(encoder).items():
        numbers = [int(piece) for piece in name.split(".") if piece.isdigit()]
        inside = name.removeprefix("network.")
        expected = numbers[0] + 1 if numbers else 4 if inside.startswith(outputs) else 0
        assert place == (expected, 3), name
    assert {place.id for place in layer_ids(encoder).values()} >= {0, 1, 2, 3}


def test_a_tower_that_is_cut_counts_the_blocks_that_it_has() -> None:
    encoder = CLIPEncoder({**SIZES, "patch_size": 8}, image_size=32, layers=[-2])
    assert {place.depth for place in layer_ids(encoder).values()} == {2}


def test_networks_of_an_ensemble_count_each_for_itself() -> None:
    clip = CLIPEncoder({**SIZES, "patch_size": 14}, image_size=56)
    dino = DINOv2Encoder(config={**SIZES, "depth": 2}, image_size=56)
    ids = layer_ids(EnsembleEncoder({"clip": clip, "dino": dino}))
    assert ids["encoders.clip.network.embeddings.position_embedding.weight"] == (0, 3)
    assert ids["encoders.clip.network.encoder.layers.2.mlp.fc1.weight"] == (3, 3)
    assert ids["encoders.dino.network.embeddings.cls_token"] == (0, 2)
    assert ids["encoders.dino.network.encoder.layer.0.mlp.fc1.weight"] == (1, 2)


def test_stages_of_convolutions_count_on() -> None:
    resnet = by_prefix(TimmEncoder("test_resnet", image_size=64, **GREY), 2)
    layers = {f"network.layer{number}": number for number in (1, 2, 3, 4)}
    assert resnet == {"network.conv1": 0, "network.bn1": 0, **layers}
    convnext = layer_ids(TimmEncoder("test_convnext", image_size=64, **GREY))
    assert {
        name: place.id for name, place in convnext.items() if "downsample.0.weight" in name
    } == {
        f"network.stages.{stage}.downsample.0.weight": block
        for stage, block in ((1, 2), (2, 4), (3, 8))
    }


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LLAMA, {"embed_tokens": 0, "layers.0": 1, "layers.2": 3, "model.norm": 4, "lm_head": 4}),
        (GPT2, {"wte": 0, "wpe": 0, "h.0": 1, "h.2": 3, "ln_f": 4}),
    ],
    ids=["llama", "gpt2"],
)
def test_language_models(config: dict[str, Any], expected: dict[str, int]) -> None:
    ids = layer_ids(CausalLanguageModel(config=config))
    for piece, place in expected.items():
        assert {id_ for name, id_ in ids.items() if f".{piece}." in name} == {(place, 3)}, piece


def test_new_tokens_are_as_new_as_the_head() -> None:
    model = CausalLanguageModel(config=LLAMA)
    model.train_tokenizer(["a text"])
    model.add_tokens(["<img>"])
    assert layer_ids(model)["new_tokens.read"] == (4, 3)


@pytest.mark.parametrize("config", [T5, BART], ids=["t5", "bart"])
def test_encoder_and_decoder_count_each_for_itself(config: dict[str, Any]) -> None:
    ids = layer_ids(Seq2SeqLanguageModel(config=config))
    stack = "block" if config is T5 else "layers"
    for name, place in ids.items():
        pieces = name.split(".")
        depth = 2 if "decoder" in pieces else 3
        if stack in pieces:
            expected = int(pieces[pieces.index(stack) + 1]) + 1
        else:
            expected = depth + 1 if "final_layer_norm" in pieces else 0
        assert place == (expected, depth), name


def test_a_tensor_of_no_inner_module_is_an_embedding_only_by_its_name() -> None:
    ids = layer_ids(
        tower(["proj", "logit_scale", "class_embedding", "pos_embed", "text_projection"])
    )
    assert {name: ids[name].id for name in ids if "." not in name} == {
        "proj": 3,
        "logit_scale": 3,
        "class_embedding": 0,
        "pos_embed": 0,
        "text_projection": 3,
    }


def test_embeddings_that_are_listed_late_are_embeddings_and_heads_are_not() -> None:
    late = {"token_embedding": nn.Embedding(3, 2), "embed_out": nn.Linear(2, 3)}
    ids = layer_ids(tower([], **late, attn_pool=Scale(["pos_embed"])))
    assert ids["token_embedding.weight"].id == 0
    assert ids["embed_out.weight"].id == ids["attn_pool.pos_embed"].id == 3
    early = Scale([], head=nn.Linear(2, 2), blocks=blocks(2))
    assert layer_ids(early)["head.weight"].id == 3


def test_the_stack_nearest_to_a_tensor_counts() -> None:
    """The layout of OpenCLIP: the text tower is the model itself, the image tower inside it."""
    visual = Scale(["class_embedding"], transformer=Scale([], resblocks=blocks(3)))
    text = Scale([], resblocks=blocks(2))
    clip = Scale(
        ["positional_embedding", "text_projection"],
        visual=visual,
        transformer=text,
        token_embedding=nn.Embedding(3, 2),
        ln_final=nn.LayerNorm(2),
    )
    ids = layer_ids(clip)
    assert ids["positional_embedding"] == ids["token_embedding.weight"] == (0, 2)
    assert ids["text_projection"] == ids["ln_final.weight"] == (3, 2)
    assert ids["visual.class_embedding"] == (0, 3)
    assert ids["visual.transformer.resblocks.2.fc.weight"] == (3, 3)


def test_chunks_of_blocks_are_one_stack() -> None:
    """The layout of Meta's DINOv2 in training, where places of other chunks' blocks are empty."""
    second = nn.ModuleList([nn.Identity(), nn.Identity(), *blocks(2)])
    ids = layer_ids(Scale(["cls_token"], blocks=nn.ModuleList([blocks(2), second])))
    assert [ids[f"blocks.{name}.fc.bias"].id for name in ("0.0", "0.1", "1.2", "1.3")] == [
        1,
        2,
        3,
        4,
    ]


def test_blocks_made_of_layers_in_a_row_are_whole() -> None:
    rows = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)) for _ in "ab")
    assert by_prefix(Scale([], layers=rows), 2) == {"layers.0": 1, "layers.1": 2}


def test_what_is_behind_the_blocks_of_a_stage_goes_with_its_last() -> None:
    """transformers' Swin halves the map at a stage's end, timm's at the next one's beginning."""
    stages = [Scale([], blocks=blocks(2), downsample=nn.Linear(2, 2)), Scale([], blocks=blocks(1))]
    ids = layer_ids(Scale([], layers=nn.ModuleList(stages)))
    assert ids["layers.0.downsample.weight"] == (2, 3)
    assert ids["layers.1.blocks.0.fc.weight"] == (3, 3)


def test_numbers_may_be_joined_to_the_name() -> None:
    def dense(count: int) -> nn.ModuleDict:
        return nn.ModuleDict({f"denselayer{number + 1}": Block() for number in range(count)})

    features = Scale(
        [],
        conv0=Block(),
        denseblock1=dense(2),
        transition1=Block(),
        denseblock2=dense(1),
        norm=Block(),
    )
    ids = layer_ids(features)
    assert [ids[f"{name}.fc.bias"].id for name in ("conv0", "transition1", "norm")] == [0, 3, 4]
    assert ids["denseblock1.denselayer2.fc.bias"] == (2, 3)


@pytest.mark.parametrize(
    "part",
    [
        nn.Linear(2, 2),
        nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)])}),
        nn.ModuleDict({"layers": nn.ParameterList([nn.Parameter(torch.zeros(2))])}),
    ],
    ids=["layer", "mlp", "tensors"],
)
def test_finds_no_blocks_where_there_are_none(part: nn.Module) -> None:
    assert layer_ids(part) == {}


def test_a_layers_list_in_a_head_is_no_stack_of_its_own() -> None:
    head = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)])})
    assert layer_ids(tower([], head=head))["head.layers.0.weight"] == (3, 2)
