import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.testing import assert_close
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from lit_vlm.freezing import freeze
from lit_vlm.language_models import TextEncoder

TEXTS = ["a red circle", "a blue square", "two green circles on a white ground"]
SIZES: dict[str, Any] = {
    "vocab_size": 280,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 24,
}
FAMILIES = ("clip_text_model", "siglip_text_model", "bert", "distilbert", "roberta")


def encoder(kind: str = "clip_text_model", **others: Any) -> TextEncoder:
    torch.manual_seed(0)
    sizes = dict(SIZES)
    if kind == "distilbert":
        sizes = {"vocab_size": 280, "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2}
        sizes["max_position_embeddings"] = 24
    made = TextEncoder(config={"model_type": kind, **sizes}, **others)
    made.train_tokenizer(TEXTS)
    return made.eval()


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("pooling", [None, "mean", "first"])
def test_every_weight_trains_and_a_vector_depends_on_its_text_alone(
    kind: str, pooling: Any
) -> None:
    if kind == "clip_text_model" and pooling == "first":
        return  # is refused
    made = encoder(kind, pooling=pooling)
    vectors = made(*made.tokenize(TEXTS))
    assert vectors.shape == (3, made.dim) == (3, 16)
    vectors.square().sum().backward()
    idle = [name for name, weight in made.named_parameters() if weight.grad is None]
    assert idle == []
    for place, text in enumerate(TEXTS):
        assert_close(made(*made.tokenize([text]))[0], vectors[place])
    assert not torch.allclose(vectors[0], vectors[1])


def test_each_family_pools_in_its_own_way() -> None:
    found = {kind: encoder(kind).pooling for kind in FAMILIES}
    assert list(found.values()) == ["eos", "last", "first", "first", "first"]


def test_texts_end_with_their_end_token_also_when_they_are_cut() -> None:
    made = encoder(max_length=6)
    end = made.tokenizer.eos_token_id  # type: ignore[union-attr]
    with pytest.warns(UserWarning, match="1 of 2 texts have more than 6 tokens") as seen:
        ids, mask = made.tokenize([TEXTS[2], ""])
    assert len(seen) == 1
    made.tokenize([TEXTS[2]])  # without another warning, which would be an error
    assert ids.shape == (2, 6)
    assert mask.tolist() == [[1] * 6, [1, 0, 0, 0, 0, 0]]
    assert ids[0, 5] == ids[1, 0] == end
    whole = encoder().tokenize([TEXTS[2]])[0][0]
    assert ids[0, :5].tolist() == whole[:5].tolist()


def test_texts_of_a_network_that_pools_the_last_place_fill_it() -> None:
    made = encoder("siglip_text_model", max_length=11)
    ids, mask = made.tokenize(TEXTS[:1])
    assert ids.shape == mask.shape == (1, 11)
    # Its padding is read along: another number there is another vector.
    other = ids.clone()
    other[0, -2] = 5
    assert not torch.allclose(made(ids, mask), made(other, mask))


def test_reads_in_lower_case_if_asked() -> None:
    plain, lower = encoder(), encoder(lower_case=True)
    assert lower.tokenize(["A RED circle"])[0].tolist() == lower.tokenize(TEXTS[:1])[0].tolist()
    assert plain.tokenize(["A RED circle"])[0].tolist() != plain.tokenize(TEXTS[:1])[0].tolist()


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_checkpoint_rebuilds_it_with_its_tokenizer(kind: str, tmp_path: Path) -> None:
    made = encoder(kind, max_length=9, lower_case=True)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path
    )
    trainer.strategy.connect(made)
    trainer.save_checkpoint(tmp_path / "text.ckpt")
    read = TextEncoder.load_from_checkpoint(tmp_path / "text.ckpt").eval()
    words = ["A red circle", "green"]
    assert (read.max_length, read.pooling) == (9, made.pooling)
    assert_close(read(*read.tokenize(words)), made(*made.tokenize(words)))


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    """A whole CLIP as it is published, with a tokenizer that closes texts by itself or not."""
    torch.manual_seed(0)
    text = SIZES | {"eos_token_id": 2, "vocab_size": 40}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(tmp_path)
    words = {word: i for i, word in enumerate(["<pad>", "<unk>", "<end>", "a", "red", "dot"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<end>",
        pad_token="<pad>",
        model_max_length=12,
    ).save_pretrained(tmp_path)
    return tmp_path


def test_takes_the_text_tower_out_of_a_whole_clip(clip_folder: Path) -> None:
    made = TextEncoder(clip_folder)
    whole = CLIPModel.from_pretrained(clip_folder).text_model.state_dict()
    assert made.network.training
    assert made.max_length == 12
    assert made.tokenize(["a red dot", "dot"])[0].tolist() == [[3, 4, 5, 2], [5, 2, 0, 0]]
    for name, value in made.network.state_dict().items():
        assert_close(value, whole[name], rtol=0, atol=0)


def test_weights_that_are_missing_are_named(clip_folder: Path) -> None:
    sizes = SIZES | {"vocab_size": 40, "num_hidden_layers": 1}
    BertModel(BertConfig(**sizes), add_pooling_layer=False).save_pretrained(clip_folder)
    made = TextEncoder(clip_folder)
    assert made.pooling == "first"
    BertConfig(**(sizes | {"num_hidden_layers": 2})).save_pretrained(clip_folder)
    with pytest.raises(ValueError, match="must hold all of BertModel, got none for 16 of its"):
        TextEncoder(clip_folder)


def test_keeps_no_graph_when_it_is_frozen() -> None:
    made = encoder()
    freeze(made)
    assert not made(*made.tokenize(TEXTS)).requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "must have pretrained .*, or config .*, got neither"),
        ({"config": SIZES | {"model_type": "t5"}}, "must be an encoder of text alone"),
        ({"config": SIZES | {"model_type": "clip"}}, "must be an encoder of text alone"),
        ({"config": {"hidden_size": 16}}, "config must have vocab_size"),
        ({"config": SIZES | {"model_type": "bertt"}}, "config must have a model_type that"),
        ({"config": SIZES, "max_length": 25}, "at least 2 and at most 24, .* got 25"),
        ({"config": SIZES, "pooling": "first"}, "must not be 'first' for a network that reads"),
        ({"config": SIZES, "max_length": 1}, "at least 2 and at most 24, .* got 1"),
    ],
)
def test_refuses_what_reads_no_texts(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextEncoder(**arguments)


@pytest.mark.parametrize("whole", [False, True], ids=["text tower", "both towers"])
def test_sizes_beside_weights_must_be_theirs(tmp_path: Path, whole: bool) -> None:
    made = encoder()
    config = {**made.network.config.to_dict(), "model_type": "clip_text_model"}
    if whole:
        eye = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        CLIPModel(CLIPConfig(text_config=config, vision_config=eye)).save_pretrained(tmp_path)
    else:
        made.network.save_pretrained(tmp_path)
    assert made.tokenizer is not None
    made.tokenizer.save_pretrained(tmp_path)
    again = TextEncoder(tmp_path, SIZES)
    assert again.rebuild_config()["init_args"]["config"]["hidden_size"] == 16
    with pytest.raises(ValueError, match="TextEncoder: .* got vocab_size=300, and they have 280"):
        TextEncoder(tmp_path, SIZES | {"vocab_size": 300})


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="must find .* as a folder or on the hub"):
        TextEncoder(tmp_path / "nothing")


def test_needs_a_tokenizer_to_tokenize() -> None:
    with pytest.raises(ValueError, match="a tokenizer must be named, got none yet"):
        TextEncoder(config=SIZES).tokenize(TEXTS)


def test_a_larger_tokenizer_than_the_network_is_refused(clip_folder: Path) -> None:
    with pytest.raises(ValueError, match="must not have more tokens than the model has embeddings"):
        TextEncoder(config=SIZES | {"vocab_size": 5}, tokenizer=clip_folder)


def test_no_text_makes_no_row() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids, mask = encoder().tokenize([])
    assert ids.shape == mask.shape == (0, 1)
