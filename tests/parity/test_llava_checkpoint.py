"""LLaVA checkpoints as transformers saves them, in our parts, against its model and processor."""

import functools
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from lightning import Trainer
from matplotlib import cbook
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from torch.testing import assert_close
from transformers import (
    AutoProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)

from lit_vlm import VisionLanguageModel
from lit_vlm.config_reader import read_fit_config
from lit_vlm.connectors import LinearConnector, MLPConnector
from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.data.collation import Batch, Collator, Example, Reference
from lit_vlm.encoders import CLIPEncoder, SigLIPEncoder
from lit_vlm.language_models import CausalLanguageModel, Seq2SeqLanguageModel
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.meta_model import meta_model
from lit_vlm.prompts import LLaVAV1

DEPTH, DIM, SIDE, PATCH, TEXT_DIM = 3, 16, 32, 8, 24
TEXTS = ["USER: what is it? ASSISTANT: a red circle", "a green square, a man"]
QUESTION, ANSWER = "what is it?", "a red circle"
# What llava-hf/llava-1.5-7b-hf has, without the marks of what is generated.
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': '}}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
TO_HUB = {r"^vision_tower\.(?!vision_model)": "vision_tower.vision_model."}
TO_NEW = {
    r"^language_model\.lm_head\.": "lm_head.",
    r"^language_model\.model\.": "model.language_model.",
    r"^vision_tower\.": "model.vision_tower.",
    r"^multi_modal_projector\.": "model.multi_modal_projector.",
}
CONFIG = """
vars:
  checkpoint: nowhere
trainer: {default_root_dir: FOLDER/run, accelerator: cpu}
model:
  class_path: VisionLanguageModel
  init_args:
    encoder:
      class_path: CLIPEncoder
      init_args: {pretrained: "${vars.checkpoint}", layers: [-2]}
    connector:
      class_path: MLPConnector
      init_args: {pretrained: "${vars.checkpoint}"}
    language_model:
      class_path: CausalLanguageModel
      init_args: {pretrained: "${vars.checkpoint}"}
    prompt:
      class_path: LLaVAV1
      init_args: {system: ""}
    resize: crop
    max_new_tokens: 8
data:
  class_path: ConversationDataModule
  init_args:
    test: {class_path: JSONConversations, init_args: {path: FOLDER/test.jsonl}}
    probes: []
"""
LAYOUTS: dict[str, dict[str, str]] = {
    "as saved": {},
    "as on the hub": TO_HUB,
    "new": TO_NEW,
    "new, with the tower's old names": {**TO_HUB, **TO_NEW},
}


class Theirs(NamedTuple):
    folder: Path
    model: Any


def byte_level() -> Any:
    return train_bpe(TEXTS, 290)


def llama_like(scheme: str) -> Any:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme, split=False)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=310, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    make: Any = PreTrainedTokenizerFast
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"}
    return make(tokenizer_object=tokenizer, **names)


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "byte-level": byte_level,
    "llama-like": functools.partial(llama_like, "first"),
}


def save_llava(
    folder: Path,
    tokenizer: Any,
    vision: Any = None,
    act: str = "gelu",
    bias: bool = True,
    shard: str = "5GB",
    **others: Any,
) -> Any:
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": DIM, "intermediate_size": 4 * DIM}
    sizes |= {"num_hidden_layers": DEPTH, "num_attention_heads": 2}
    text = LlamaConfig(
        vocab_size=len(tokenizer) + 29,  # the rows that 32064 has beyond the tokens
        hidden_size=TEXT_DIM,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=(vision or CLIPVisionConfig)(image_size=SIDE, patch_size=PATCH, **sizes),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // PATCH) ** 2,
        projector_hidden_act=act,
        multimodal_projector_bias=bias,
        **others,
    )
    model: Any = LlavaForConditionalGeneration(config).eval()
    for parameter in model.parameters():  # initial norms are 1 and biases 0: hide no mistake
        nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.2)
    images = CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    )
    model.save_pretrained(folder, max_shard_size=shard)
    processor.save_pretrained(folder)
    return model


def rename(folder: Path, names: dict[str, str]) -> None:
    """Rename the tensors in all files of a folder by patterns."""

    def new(key: str) -> str:
        for old, given in names.items():
            key = re.sub(old, given, key)
        return key

    for file in folder.glob("*.safetensors"):
        weights = load_file(file)
        save_file({new(k): v for k, v in weights.items()}, file, metadata={"format": "pt"})
    for file in folder.glob("*.index.json"):
        index = json.loads(file.read_text())
        index["weight_map"] = {new(k): name for k, name in index["weight_map"].items()}
        file.write_text(json.dumps(index))


@pytest.fixture(scope="module", params=TOKENIZERS)
def theirs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    folder = tmp_path_factory.mktemp("llava")
    return Theirs(folder, save_llava(folder, TOKENIZERS[request.param]()))


@pytest.fixture(scope="module")
def ours(theirs: Theirs) -> VisionLanguageModel:
    return load_ours(theirs.folder)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    # Of a size whose middle is found without rounding; transformers rounds to whole pixels.
    file: Any = cbook.get_sample_data("grace_hopper.jpg")
    with file:
        return Image.open(file).convert("RGB").crop((0, 0, 512, 576))


def load_ours(folder: Path) -> VisionLanguageModel:
    return VisionLanguageModel(
        CLIPEncoder(pretrained=folder, layers=[-2]),
        CausalLanguageModel(pretrained=folder),
        connector=functools.partial(MLPConnector, pretrained=folder),
        prompt=LLaVAV1(system=""),
        resize="crop",
        max_new_tokens=8,
    ).eval()


def load_encoder(folder: Path) -> None:
    CLIPEncoder(pretrained=folder, layers=[-2])


def load_connector(folder: Path) -> None:
    MLPConnector(DIM, TEXT_DIM, pretrained=folder)


def load_language_model(folder: Path) -> None:
    CausalLanguageModel(pretrained=folder)


READERS: list[tuple[Callable[[Path], None], str, str]] = [
    # what reads, the names of what it reads, and one that it does not
    (load_encoder, "vision_tower.", "language_model.model.embed_tokens.weight"),
    (load_connector, "multi_modal_projector.", "language_model.model.embed_tokens.weight"),
    (load_language_model, "language_model.", "vision_tower.embeddings.class_embedding"),
]


def write_with_a_hole(file: Path, weights: dict[str, torch.Tensor], name: str, size: int) -> None:
    """Write float32 tensors and one of ``size`` bytes more, which takes no room on disk."""
    header: dict[str, Any] = {}
    content = b""
    for key, value in weights.items():
        data = value.contiguous().numpy().tobytes()
        places = [len(content), len(content) + len(data)]
        header[key] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": places}
        content += data
    places = [len(content), len(content) + size]
    header[name] = {"dtype": "F32", "shape": [size // 4], "data_offsets": places}
    head = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    head += b" " * (-len(head) % 8)
    with file.open("wb") as out:
        out.write(len(head).to_bytes(8, "little") + head + content)
        out.truncate(out.tell() + size)


def memory(kind: str) -> int:
    """Return a figure of this process in bytes: ``VmRSS`` of now, ``VmHWM`` since the reset."""
    status = Path("/proc/self/status").read_text()
    [kilobytes] = re.findall(rf"{kind}:\s+(\d+) kB", status)
    return int(kilobytes) * 1024


def dialogue(picture: Image.Image, answer: str | None = None) -> Conversation:
    turns = [Turn("user", (ImageContent(picture), QUESTION))]
    turns += [Turn("assistant", (answer,))] if answer else []
    return Conversation("sample", tuple(turns))


def read_by_them(folder: Path, picture: Image.Image, answer: str = "") -> Any:
    processor: Any = AutoProcessor.from_pretrained(folder)
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    messages = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    end = f" {answer}{processor.tokenizer.eos_token}" if answer else ""
    return processor(images=picture, text=text + end, return_tensors="pt")


def batch_of(model: VisionLanguageModel, conversation: Conversation) -> Batch:
    processor = model.processor
    example = Example(
        encoded=processor.encode(conversation),
        prompt=processor.encode_prompt(Conversation("sample", conversation.turns[:1])),
        pixels=processor.pixels(conversation),
        reference=Reference(0, conversation, ANSWER, repeated=False),
    )
    return Collator(processor.pad_id, processor.image_size)([example])


def test_pixels_are_those_of_its_processor(
    theirs: Theirs, ours: VisionLanguageModel, picture: Image.Image
) -> None:
    expected = read_by_them(theirs.folder, picture).pixel_values
    pixels = torch.stack(ours.processor.pixels(dialogue(picture)))
    assert_close(ours.encoder.preprocess(pixels), expected, atol=0.02, rtol=0)  # 1 of 256 is 0.015
    assert expected.std() > 0.5


def test_prompts_have_the_ids_of_its_processor(
    theirs: Theirs, ours: VisionLanguageModel, picture: Image.Image
) -> None:
    expected = read_by_them(theirs.folder, picture).input_ids[0]
    got = ours.processor.encode_prompt(dialogue(picture))
    ids = torch.tensor(got.input_ids)
    image_id = theirs.model.config.image_token_index
    assert ids.masked_fill(torch.tensor(got.is_visual), image_id).tolist() == expected.tolist()


def test_logits_and_loss_are_theirs(
    theirs: Theirs, ours: VisionLanguageModel, picture: Image.Image
) -> None:
    batch = batch_of(ours, dialogue(picture, ANSWER))
    assert batch.inputs is not None
    inputs = read_by_them(theirs.folder, picture, ANSWER)
    with torch.no_grad():
        expected = theirs.model(**inputs, labels=batch.inputs.labels)
        logits, loss = ours.logits(batch), ours(batch)
    assert expected.logits.std() > 0.1, "the logits must say something"
    assert_close(logits, expected.logits, atol=1e-4, rtol=0)
    assert_close(loss.total / loss.num_tokens, expected.loss, atol=1e-5, rtol=1e-5)


def test_greedy_answers_are_theirs(
    theirs: Theirs, ours: VisionLanguageModel, picture: Image.Image
) -> None:
    inputs = read_by_them(theirs.folder, picture)
    ids = theirs.model.generate(**inputs, max_new_tokens=8, do_sample=False)
    new = ids[0, inputs.input_ids.shape[1] :]
    tokenizer: Any = ours.language_model.tokenizer
    assert len(new)
    assert ours.respond([dialogue(picture)]) == [
        tokenizer.decode(new, skip_special_tokens=True).strip()
    ]


def test_an_old_llama_tokenizer_puts_a_space_behind_images_which_we_do_not(
    tmp_path: Path, picture: Image.Image
) -> None:
    model = save_llava(tmp_path, llama_like("always"))
    expected = read_by_them(tmp_path, picture).input_ids[0].tolist()
    ours = load_ours(tmp_path)
    got = ours.processor.encode_prompt(dialogue(picture))
    image_id = model.config.image_token_index
    ids = torch.tensor(got.input_ids).masked_fill(torch.tensor(got.is_visual), image_id).tolist()
    behind = len(ids) - ids[::-1].index(image_id)
    space = AutoProcessor.from_pretrained(tmp_path).tokenizer.convert_tokens_to_ids("▁")
    assert ids[:behind] + [space] + ids[behind:] == expected


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shard", ["5GB", "20KB"])
def test_every_layout_of_names_is_read(tmp_path: Path, layout: str, shard: str) -> None:
    theirs = save_llava(tmp_path, byte_level(), shard=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "20KB")
    rename(tmp_path, LAYOUTS[layout])
    check_weights(load_ours(tmp_path), theirs)


def test_torch_files_are_read(tmp_path: Path) -> None:
    theirs = save_llava(tmp_path, byte_level())
    file = tmp_path / "model.safetensors"
    torch.save(load_file(file), tmp_path / "pytorch_model.bin")
    file.unlink()
    check_weights(load_ours(tmp_path), theirs)


def check_weights(ours: VisionLanguageModel, theirs: Any) -> None:
    places = {
        "model.vision_tower.": "encoder.network.",
        "model.multi_modal_projector.linear_1.": "connector.layers.0.",
        "model.multi_modal_projector.linear_2.": "connector.layers.2.",
        "model.language_model.": "language_model.model.model.",
        "lm_head.": "language_model.model.lm_head.",
    }
    left = ours.state_dict()
    for key, value in theirs.state_dict().items():
        [(old, new)] = [pair for pair in places.items() if key.startswith(pair[0])]
        found = left.pop(new + key.removeprefix(old), None)
        if found is None:  # the last block is not read, nor the norm behind it
            assert key.startswith(
                ("model.vision_tower.encoder.layers.2.", "model.vision_tower.post")
            )
        else:
            assert torch.equal(found, value), key
    assert set(left) == {"encoder.mean", "encoder.std"} & set(left)


def test_a_run_that_began_with_it_is_rebuilt_without_it(tmp_path: Path) -> None:
    folder = tmp_path / "llava"
    save_llava(folder, byte_level())
    model = load_ours(folder)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_model_summary=False, enable_progress_bar=False
    )
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    shutil.rmtree(folder)
    again = VisionLanguageModel.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert str(folder) not in str(again.init_config)
    picture = Image.new("RGB", (40, 30), "red")
    assert again.respond([dialogue(picture)]) == model.respond([dialogue(picture)])


def test_a_config_tests_it_without_training(
    theirs: Theirs, picture: Image.Image, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    picture.save(tmp_path / "picture.png")
    turns = [{"from": "human", "value": f"<image>{QUESTION}"}, {"from": "gpt", "value": ANSWER}]
    sample = {"id": "0", "image": "picture.png", "conversations": turns}
    (tmp_path / "test.jsonl").write_text(json.dumps(sample))
    file = tmp_path / "llava.yaml"
    file.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    words = ("--config", file, "--vars.checkpoint", theirs.folder)
    code, _, err = cli("test", *words)
    assert code == 0, err
    [line] = (tmp_path / "run/predictions.jsonl").read_text().splitlines()
    ids = theirs.model.generate(
        **read_by_them(theirs.folder, picture), max_new_tokens=8, do_sample=False
    )
    text = AutoProcessor.from_pretrained(theirs.folder).decode(ids[0], skip_special_tokens=True)
    assert text.endswith(json.loads(line)["generated"])


def test_the_shipped_config_is_of_the_published_size() -> None:
    names = ["systems/llava/full", "systems/llava/pretrained"]
    config = read_fit_config([word for name in names for word in ("--config", name)])["model"]
    assert str(config).count("'llava-hf/llava-1.5-7b-hf'") == 3
    model = meta_model(config)
    connector: Any = model.connector
    size = sum(int(parameter.numel()) for parameter in connector.parameters())
    assert size == 1024 * 4096 + 4096 + 4096 * 4096 + 4096
    language_model: Any = model.language_model
    assert language_model.model.lm_head.weight.shape == (32064, 4096)


def test_a_plan_needs_no_weights(tmp_path: Path) -> None:
    theirs = save_llava(tmp_path, byte_level())
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    source = {"pretrained": str(tmp_path)}
    parts = {
        "encoder": {"class_path": "CLIPEncoder", "init_args": {**source, "layers": [-2]}},
        "language_model": {"class_path": "CausalLanguageModel", "init_args": source},
        "connector": {"class_path": "MLPConnector", "init_args": source},
        "prompt": {"class_path": "LLaVAV1"},
    }
    model = meta_model({"class_path": "VisionLanguageModel", "init_args": parts})
    unread = ("model.vision_tower.encoder.layers.2.", "model.vision_tower.post")
    read = [v.numel() for k, v in theirs.named_parameters() if not k.startswith(unread)]
    assert sum(parameter.numel() for parameter in model.parameters()) == sum(read)


def test_only_the_file_with_the_projector_is_opened(tmp_path: Path) -> None:
    theirs = save_llava(tmp_path, byte_level(), shard="2KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    kept = {name for key, name in index.items() if key.startswith("multi_modal_projector.")}
    for file in tmp_path.glob("*.safetensors"):
        if file.name not in kept:
            file.unlink()
    connector = MLPConnector(DIM, TEXT_DIM, pretrained=tmp_path)
    projector = theirs.model.multi_modal_projector
    assert torch.equal(connector.state_dict()["layers.2.weight"], projector.linear_2.weight)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
@pytest.mark.parametrize(("read", "own", "other"), READERS)
def test_what_a_part_does_not_read_takes_no_memory(
    tmp_path: Path, read: Callable[[Path], None], own: str, other: str
) -> None:
    save_llava(tmp_path, byte_level())
    file = tmp_path / "model.safetensors"
    weights = {key: value for key, value in load_file(file).items() if key.startswith(own)}
    hole = 1 << 27
    write_with_a_hole(file, weights, other, hole)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    read(tmp_path)
    assert memory("VmHWM") - before < hole // 2
    load_file(file)[other].sum()
    assert memory("VmHWM") - before > hole // 2, "the measure must see it"


def test_a_siglip_tower_is_read(tmp_path: Path) -> None:
    full: dict[str, Any] = {"vision_feature_select_strategy": "full", "vision_feature_layer": -1}
    theirs = save_llava(tmp_path, byte_level(), SiglipVisionConfig, **full)
    encoder = SigLIPEncoder(pretrained=tmp_path, layers=[-1])
    connector = MLPConnector(DIM, TEXT_DIM, pretrained=tmp_path)
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    pixels = encoder.preprocess(images)
    with torch.no_grad():
        [level] = encoder.eval()(images).levels
        expected = torch.stack(list(theirs.get_image_features(pixels).pooler_output))
        assert_close(connector(level), expected, atol=1e-4, rtol=1e-5)


def test_a_projector_without_biases_is_read(tmp_path: Path) -> None:
    theirs = save_llava(tmp_path, byte_level(), bias=False)
    connector = MLPConnector(DIM, TEXT_DIM, pretrained=tmp_path)
    tokens = torch.randn(2, 4, DIM)
    with torch.no_grad():
        assert_close(connector(tokens), theirs.model.multi_modal_projector(tokens))


def test_a_projector_without_an_activation_is_one_matrix(tmp_path: Path) -> None:
    theirs = save_llava(tmp_path, byte_level(), act="linear")
    connector = LinearConnector(DIM, TEXT_DIM, pretrained=tmp_path)
    tokens = torch.randn(2, 4, DIM)
    with torch.no_grad():
        expected = theirs.model.multi_modal_projector(tokens)
        assert_close(connector(tokens), expected, atol=1e-5, rtol=1e-5)


def test_a_projector_that_llavas_own_code_has_saved_is_read(tmp_path: Path) -> None:
    # https://github.com/haotian-liu/LLaVA, llava/train/llava_trainer.py and
    # llava/model/multimodal_projector/builder.py: mlp2x_gelu
    projector = nn.Sequential(nn.Linear(DIM, TEXT_DIM), nn.GELU(), nn.Linear(TEXT_DIM, TEXT_DIM))
    state = {f"model.mm_projector.{key}": value for key, value in projector.state_dict().items()}
    torch.save(state, tmp_path / "mm_projector.bin")
    connector = MLPConnector(DIM, TEXT_DIM, pretrained=tmp_path / "mm_projector.bin")
    tokens = torch.randn(2, 4, DIM)
    assert torch.equal(connector(tokens), projector(tokens))
    torch.save({"model.mm_projector.weight": torch.zeros(2, 2)}, tmp_path / "linear.bin")
    with pytest.raises(
        ValueError, match="projector of LLaVA's mlp2x_gelu .* got model.mm_projector.w"
    ):
        MLPConnector(DIM, TEXT_DIM, pretrained=tmp_path / "linear.bin")


def test_a_projector_of_other_sizes_or_another_kind_is_refused(tmp_path: Path) -> None:
    save_llava(tmp_path, byte_level())
    shape = r"the shape \(24, 16\) for layers.0.weight in the place of the shape \(24, 17\)"
    with pytest.raises(ValueError, match=f"MLPConnector: the connector in .*, got {shape}"):
        MLPConnector(DIM + 1, TEXT_DIM, pretrained=tmp_path)
    with pytest.raises(ValueError, match="needs depth=2 and activation='gelu', .* got depth=3"):
        MLPConnector(DIM, TEXT_DIM, depth=3, pretrained=tmp_path)
    with pytest.raises(ValueError, match="got depth=2 and activation='relu'"):
        MLPConnector(DIM, TEXT_DIM, activation="relu", pretrained=tmp_path)
    with pytest.raises(ValueError, match="LinearConnector: .* got gelu. Take MLPConnector"):
        LinearConnector(DIM, TEXT_DIM, pretrained=tmp_path)


def test_parts_of_another_kind_are_refused(tmp_path: Path) -> None:
    save_llava(tmp_path, byte_level())
    with pytest.raises(ValueError, match="SigLIPEncoder: .* is of type clip_vision_model"):
        SigLIPEncoder(pretrained=tmp_path)
    message = "Seq2SeqLanguageModel: the language model of .*AutoModelForSeq2SeqLM, got llama"
    with pytest.raises(ValueError, match=message):
        Seq2SeqLanguageModel(pretrained=tmp_path)


def test_a_language_model_is_no_llava(tmp_path: Path) -> None:
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="must be a checkpoint of LLaVA .* has model_type llama"):
        MLPConnector(DIM, TEXT_DIM, pretrained=tmp_path)


def test_a_missing_checkpoint_is_named() -> None:
    message = "MLPConnector: must find 'no/llava' as a file, a folder or on the hub, got OSError"
    with pytest.raises(OSError, match=message):
        MLPConnector(DIM, TEXT_DIM, pretrained="no/llava")


def test_a_language_model_with_tensors_missing_is_refused(tmp_path: Path) -> None:
    save_llava(tmp_path, byte_level())
    rename(tmp_path, {r"^language_model\.lm_head": "another"})
    with pytest.raises(ValueError, match="as a whole, got none of lm_head.weight, of 1 in all"):
        CausalLanguageModel(pretrained=tmp_path)


def test_other_layers_than_the_projectors_are_warned_of(tmp_path: Path) -> None:
    save_llava(tmp_path, byte_level())
    message = r"CLIPEncoder: the projector of .* on layers \[-2\], got \[3\]. Give layers: \[-2\]"
    with pytest.warns(UserWarning, match=message):
        CLIPEncoder(pretrained=tmp_path)


def test_a_class_token_that_the_projector_was_trained_on_is_warned_of(tmp_path: Path) -> None:
    save_llava(tmp_path, byte_level(), vision_feature_select_strategy="full")
    with pytest.warns(UserWarning, match="vision_feature_select_strategy: full; expect other"):
        CLIPEncoder(pretrained=tmp_path, layers=[-2])


def test_its_own_format_is_not_taken_for_a_foreign_one(theirs: Theirs) -> None:
    model = load_ours(theirs.folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.processor.stop_ids == [theirs.model.config.text_config.eos_token_id]
