"""LLaVA 1.5 as transformers has it, against the same weights in lit-vlm's parts."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from lit_vlm import VisionLanguageModel
from lit_vlm.connectors import MLPConnector
from lit_vlm.conversation import Conversation
from lit_vlm.data.collation import Batch, Collator, Example, Reference
from lit_vlm.encoders import TimmEncoder
from lit_vlm.language_models import IGNORED, CausalLanguageModel
from lit_vlm.processing import Encoded
from lit_vlm.prompts import Plain

DEPTH, DIM, SIDE, PATCH = 3, 16, 16, 8
TOKENS_PER_IMAGE = (SIDE // PATCH) ** 2
IMAGE_ID = 299  # the last row of the vocabulary; the tokenizer below makes fewer tokens
TEXT_MODEL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def from_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the CLIP tower's weights to timm's names, which join query, key and value."""
    renamed = {
        "cls_token": weights["embeddings.class_embedding"].reshape(1, 1, -1),
        "pos_embed": weights["embeddings.position_embedding.weight"].unsqueeze(0),
        "patch_embed.proj.weight": weights["embeddings.patch_embedding.weight"],
    }
    parts = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj"}
    parts |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for kind in ("weight", "bias"):
        renamed[f"norm_pre.{kind}"] = weights[f"pre_layrnorm.{kind}"]
        for layer in range(DEPTH):
            ours, theirs = f"blocks.{layer}", f"encoder.layers.{layer}"
            for new, old in parts.items():
                renamed[f"{ours}.{new}.{kind}"] = weights[f"{theirs}.{old}.{kind}"]
            joined = [weights[f"{theirs}.self_attn.{which}_proj.{kind}"] for which in "qkv"]
            renamed[f"{ours}.attn.qkv.{kind}"] = torch.cat(joined)
    return renamed


def below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


@pytest.fixture(scope="module")
def llava() -> Any:
    torch.manual_seed(0)
    tower = CLIPVisionConfig(
        hidden_size=DIM,
        intermediate_size=4 * DIM,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
    )
    config = LlavaConfig(
        vision_config=tower, text_config=LlamaConfig(**TEXT_MODEL), image_token_index=IMAGE_ID
    )
    assert (config.vision_feature_layer, config.vision_feature_select_strategy) == (-2, "default")
    model: Any = LlavaForConditionalGeneration(config).eval()
    for parameter in model.parameters():  # initial norms are 1 and biases 0: hide no mistake
        nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.2)
    return model


@pytest.fixture(scope="module")
def ours(llava: Any) -> VisionLanguageModel:
    encoder = TimmEncoder(
        "vit_base_patch16_clip_quickgelu_224.openai",
        layers=[-2],
        image_size=SIDE,
        config={"patch_size": PATCH, "embed_dim": DIM, "depth": DEPTH, "num_heads": 2},
    )
    language_model = CausalLanguageModel(config={"model_type": "llama", **TEXT_MODEL})
    language_model.train_tokenizer(["a red circle", "a green square"])
    tokenizer = language_model.tokenizer
    assert tokenizer is not None
    assert len(tokenizer) <= IMAGE_ID
    model = VisionLanguageModel(
        encoder, language_model, connector=MLPConnector, prompt=Plain(), max_new_tokens=8
    )

    weights = llava.state_dict()
    tower = from_transformers(below(weights, "model.vision_tower."))
    unread = encoder.network.load_state_dict(tower, strict=False)
    assert not unread.missing_keys
    assert {key.split(".")[1] for key in unread.unexpected_keys} == {str(DEPTH - 1)}, "cut block"
    projector = below(weights, "model.multi_modal_projector.")
    layers = {"linear_1": "0", "linear_2": "2"}
    model.connector.load_state_dict(
        {f"layers.{layers[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in projector.items()}
    )
    text = {f"model.{k}": v for k, v in below(weights, "model.language_model.").items()}
    language_model.model.load_state_dict(text | {"lm_head.weight": weights["lm_head.weight"]})
    return model.eval()


def batch_of(images_and_lengths: Sequence[tuple[int, int]], pad_id: int) -> Batch:
    """Make random samples: some images, each followed by text, the last half of it supervised."""
    torch.manual_seed(1)
    examples = []
    for index, (images, length) in enumerate(images_and_lengths):
        ids, visual = [2], [False]
        for _ in range(images):
            ids += [pad_id] * TOKENS_PER_IMAGE + [3]
            visual += [True] * TOKENS_PER_IMAGE + [False]
        ids += torch.randint(4, 250, (length,)).tolist()
        visual += [False] * length
        answer = length // 2
        labels = [IGNORED] * (len(ids) - answer) + ids[len(ids) - answer :]
        cut = len(ids) - answer
        examples.append(
            Example(
                encoded=Encoded(ids, labels, visual),
                prompt=Encoded(ids[:cut], labels[:cut], visual[:cut]),
                pixels=list(torch.randint(0, 256, (images, 3, SIDE, SIDE), dtype=torch.uint8)),
                reference=Reference(index, Conversation(str(index), ()), "", repeated=False),
            )
        )
    return Collator(pad_id, (SIDE, SIDE))(examples)


def theirs(batch: Batch, prompts: bool = False) -> dict[str, Tensor]:
    """Return the inputs of transformers' model for a batch of ours."""
    text = batch.prompts if prompts else batch.inputs
    assert text is not None
    mean, std = torch.tensor([OPENAI_CLIP_MEAN, OPENAI_CLIP_STD]).reshape(2, 3, 1, 1)
    return {
        "input_ids": text.input_ids.masked_fill(text.is_visual, IMAGE_ID),
        "attention_mask": text.attention_mask.long(),
        "pixel_values": (batch.images / 255 - mean) / std,
    }


def test_layers_count_as_in_transformers(llava: Any) -> None:
    encoder = TimmEncoder(
        "vit_base_patch16_clip_quickgelu_224.openai",
        layers=list(range(DEPTH + 1)),
        image_size=SIDE,
        config={"patch_size": PATCH, "embed_dim": DIM, "depth": DEPTH, "num_heads": 2},
    )
    tower = from_transformers(below(llava.state_dict(), "model.vision_tower."))
    encoder.network.load_state_dict(tower)
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    with torch.no_grad():
        levels = encoder.eval()(images).levels
        states = llava.model.vision_tower(
            encoder.preprocess(images), output_hidden_states=True
        ).hidden_states
    assert len(levels) == len(states) == DEPTH + 1
    for layer, (level, state) in enumerate(zip(levels, states, strict=True)):
        assert_close(level, state[:, 1:], atol=1e-5, rtol=1e-5, msg=f"layer {layer}")


BATCHES = pytest.mark.parametrize(
    "samples",
    [[(1, 6)], [(3, 6)], [(1, 4), (1, 10), (2, 6)]],
    ids=["one image", "several images", "padded batch"],
)


@BATCHES
def test_logits_are_llavas(
    llava: Any,
    ours: VisionLanguageModel,
    samples: list[tuple[int, int]],
) -> None:
    batch = batch_of(samples, ours.processor.pad_id)
    assert batch.inputs is not None
    with torch.no_grad():
        expected = llava(**theirs(batch)).logits
        got = ours.logits(batch)
    seen = batch.inputs.attention_mask
    assert expected[seen].std() > 0.1, "the logits must say something"
    assert_close(got[seen], expected[seen], atol=1e-4, rtol=0)


@BATCHES
def test_loss_and_gradients_of_the_connector_are_llavas(
    llava: Any,
    ours: VisionLanguageModel,
    samples: list[tuple[int, int]],
) -> None:
    batch = batch_of(samples, ours.processor.pad_id)
    assert batch.inputs is not None
    llava.zero_grad()
    ours.zero_grad()
    expected = llava(**theirs(batch), labels=batch.inputs.labels).loss
    loss = ours(batch)
    mean = loss.total / loss.num_tokens
    assert_close(mean, expected, atol=1e-5, rtol=1e-5)

    expected.backward()
    mean.backward()
    projector = llava.model.multi_modal_projector
    pairs = zip(ours.connector.parameters(), projector.parameters(), strict=True)
    for our_weight, their_weight in pairs:
        assert their_weight.grad is not None
        assert their_weight.grad.abs().max() > 1e-4
        assert_close(our_weight.grad, their_weight.grad, atol=1e-5, rtol=1e-4)


@BATCHES
def test_greedy_answers_are_llavas(
    llava: Any,
    ours: VisionLanguageModel,
    samples: list[tuple[int, int]],
) -> None:
    batch = batch_of(samples, ours.processor.pad_id)
    assert batch.prompts is not None
    stop = ours.processor.stop_ids
    generated = llava.generate(
        **theirs(batch, prompts=True),
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=stop[0],
    )
    new = generated[:, batch.prompts.input_ids.shape[1] :]
    with torch.no_grad():
        embeddings = ours._embed(batch.prompts, ours.see(batch.images))
    ids = ours.language_model.generate(
        embeddings, batch.prompts.attention_mask, stop, max_new_tokens=8
    )
    assert torch.equal(ids, new)
    assert ours.generate(batch) == [ours.processor.decode(row) for row in new.tolist()]
