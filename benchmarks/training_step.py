"""Time an epoch of training against a bare PyTorch loop and transformers' Trainer.

They train the same model, a small LLaVA with a frozen vision tower, from the same weights on the
same batches, and must arrive at the same loss. They take turns, so that a busy computer slows all
of them alike, and CPU time is counted too. Needs ``accelerate``, which the ``dev`` extra brings.

    python benchmarks/training_step.py
"""

import argparse
import copy
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import lightning
import numpy as np
import timm
import torch
import transformers
from lightning import Trainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from lit_vlm import VisionLanguageModel
from lit_vlm.connectors import MLPConnector
from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.data import ConversationDataModule
from lit_vlm.data.collation import Batch
from lit_vlm.data.sources import ConversationSource
from lit_vlm.encoders import TimmEncoder
from lit_vlm.language_models import IGNORED, CausalLanguageModel
from lit_vlm.prompts import Plain

TOWER: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4}
TOWER |= {"num_attention_heads": 4, "patch_size": 16}
TEXT: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4}
TEXT |= {"num_attention_heads": 4, "max_position_embeddings": 512}
LIT_VLM = "lit-vlm, reading its data as it trains"
PREMADE = "lit-vlm, on batches made before"
BARE = "bare PyTorch loop"
TRANSFORMERS = "transformers' Trainer"
LEARNING_RATE, BETAS, CLIP = 1e-4, (0.9, 0.95), 1.0
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "orange", "purple")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")


class Questions(ConversationSource):
    """Pictures in memory, each with a question and a short answer."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.dialogues = [dialogue(index, size) for index in range(count)]

    def prepare(self) -> None:
        """Nothing: everything is in memory."""

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return len(self.dialogues)

    def __getitem__(self, index: int) -> Conversation:
        """Return a dialogue."""
        return self.dialogues[index]

    def image_keys(self, index: int) -> tuple[int, ...]:
        """Return the picture's key."""
        return (index,)

    def lengths(self) -> NDArray[np.int64]:
        """Return equal lengths."""
        return np.ones(len(self), dtype=np.int64)


def dialogue(index: int, size: int) -> Conversation:
    """Make up a picture, a question and an answer; the same index gives the same ones."""
    random = np.random.default_rng(index)
    picture = Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8))
    things = [f"the {random.choice(COLOURS)} {random.choice(SHAPES)}" for _ in range(3)]
    question = f"What is between {things[0]} and {things[1]}, left of {things[2]} in the picture?"
    answer = f"{random.choice(COLOURS)} {random.choice(SHAPES)}"
    asked = Turn("user", (ImageContent(picture), question))
    return Conversation(str(index), (asked, Turn("assistant", (answer,))))


class Premade(Dataset[Any]):
    """Batches made beforehand."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        """Return a batch."""
        return self.batches[index]


def build(size: int, vocab_size: int) -> VisionLanguageModel:
    """Return the model in lit-vlm's parts, its encoder frozen."""
    encoder = TimmEncoder(
        "vit_base_patch16_clip_quickgelu_224.openai",
        layers=[-2],
        image_size=size,
        config={
            "embed_dim": TOWER["hidden_size"],
            "depth": TOWER["num_hidden_layers"],
            "num_heads": TOWER["num_attention_heads"],
        },
    )
    language_model = CausalLanguageModel(
        config={"model_type": "llama", "vocab_size": vocab_size, **TEXT}
    )
    model = VisionLanguageModel(
        encoder,
        language_model,
        connector=MLPConnector,
        prompt=Plain(),
        learning_rate=LEARNING_RATE,
        weight_decay=0.0,
        betas=BETAS,
        warmup=0,
        schedule="constant",
        generate_in_validation=False,
    )
    model.encoder.freeze()
    return model


def as_llava(model: Any, size: int) -> Any:
    """Return transformers' LLaVA with the weights of a model of ours, its tower frozen."""
    text = model.language_model.model
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=size, **TOWER),
        text_config=LlamaConfig(vocab_size=text.config.vocab_size, **TEXT),
        image_token_index=text.config.vocab_size - 1,
    )
    llava: Any = LlavaForConditionalGeneration(config)
    names = tower_names(TOWER["num_hidden_layers"] - 1)
    weights = model.encoder.network.state_dict()
    tower = {}
    for name, value in weights.items():
        new = [name.replace(old, to) for old, to in names if name.startswith(old)][0]
        if ".qkv." in name:
            for part, which in zip(value.chunk(3), "qkv", strict=True):
                tower[new.replace("qkv", f"{which}_proj")] = part
        else:
            tower[new] = value
    tower["embeddings.class_embedding"] = tower["embeddings.class_embedding"].flatten()
    positions = "embeddings.position_embedding.weight"
    tower[positions] = tower[positions].squeeze(0)
    unread = llava.model.vision_tower.load_state_dict(tower, strict=False)
    assert not unread.unexpected_keys
    linears = (model.connector.layers[0], model.connector.layers[2])
    projector = llava.model.multi_modal_projector
    projector.linear_1.load_state_dict(linears[0].state_dict())
    projector.linear_2.load_state_dict(linears[1].state_dict())
    llava.model.language_model.load_state_dict(text.model.state_dict())
    llava.lm_head.load_state_dict(text.lm_head.state_dict())
    llava.model.vision_tower.requires_grad_(False)
    return llava


def tower_names(depth: int) -> list[tuple[str, str]]:
    """Return timm's names of a CLIP tower's weights, and transformers' names of the same."""
    names = [
        ("cls_token", "embeddings.class_embedding"),
        ("pos_embed", "embeddings.position_embedding.weight"),
        ("patch_embed.proj", "embeddings.patch_embedding"),
        ("norm_pre", "pre_layrnorm"),
    ]
    inside = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.qkv": "self_attn.qkv"}
    inside |= {"attn.proj": "self_attn.out_proj", "mlp": "mlp"}
    return names + [
        (f"blocks.{block}.{ours}", f"encoder.layers.{block}.{theirs}")
        for block in range(depth)
        for ours, theirs in inside.items()
    ]


def train_lit_vlm(model: VisionLanguageModel, data: Any) -> None:
    """Train an epoch with Lightning."""
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        gradient_clip_val=CLIP,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)


def train_bare(model: Any, batches: list[Any]) -> None:
    """Train an epoch with a loop by hand over the same modules."""
    encoder, connector, text = model.encoder, model.connector, model.language_model.model
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=LEARNING_RATE, betas=BETAS, weight_decay=0.0, fused=True
    )
    model.train()
    model.zero_grad()
    for batch in batches:
        inputs = batch.inputs
        with torch.no_grad():
            pixels = (batch.images / 255 - encoder.mean) / encoder.std
            patches = encoder.encode(pixels).levels[0]
        embeddings = text.get_input_embeddings()(inputs.input_ids)
        merged = embeddings.masked_scatter(inputs.is_visual[..., None], connector(patches))
        hidden = text.model(
            inputs_embeds=merged, attention_mask=inputs.attention_mask.long(), use_cache=False
        ).last_hidden_state
        targets = inputs.labels[:, 1:]
        supervised = targets != IGNORED
        loss = cross_entropy(text.lm_head(hidden[:, :-1][supervised]), targets[supervised])
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trainable, CLIP)
        optimizer.step()
        optimizer.zero_grad()


def train_transformers(llava: Any, batches: list[dict[str, Tensor]]) -> None:
    """Train an epoch with transformers' Trainer."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=1,  # of premade batches
            train_sampling_strategy="sequential",
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            adam_beta1=BETAS[0],
            adam_beta2=BETAS[1],
            max_grad_norm=CLIP,
            optim="adamw_torch_fused",
            logging_steps=50,  # as often as Lightning
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer: Any = transformers.Trainer(
            llava, arguments, train_dataset=Premade(batches), data_collator=lambda rows: rows[0]
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()


def for_llava(model: Any, batch: Batch) -> dict[str, Tensor]:
    """Return a batch as transformers' LLaVA takes it: placeholders and normalised pixels."""
    inputs = batch.inputs
    assert inputs is not None
    placeholder = model.language_model.model.config.vocab_size - 1
    return {
        "input_ids": inputs.input_ids.masked_fill(inputs.is_visual, placeholder),
        "attention_mask": inputs.attention_mask.long(),
        "labels": inputs.labels,
        "pixel_values": model.encoder.preprocess(batch.images),
    }


class Lap(NamedTuple):
    """What an epoch took: samples per second, CPU seconds per sample; and the loss behind it."""

    pace: float
    cpu: float
    loss: float


class Race:
    """The contestants, with the model and the batches that they share.

    Args:
        samples: dialogues of an epoch.
        batch_size: dialogues of a batch.
        size: side of the pictures, in pixels.
        vocab_size: size of the vocabulary.
    """

    def __init__(self, samples: int, batch_size: int, size: int, vocab_size: int) -> None:
        torch.manual_seed(0)
        self.model = build(size, vocab_size)
        self.data = ConversationDataModule(train=Questions(samples, size), batch_size=batch_size)
        self.model.language_model.train_tokenizer(self.data.training_texts())
        self.llava = as_llava(self.model, size)
        self.data.processor = self.model.processor
        self.batches: list[Batch] = list(self.data.train_dataloader())
        self.theirs = [for_llava(self.model, batch) for batch in self.batches]
        self.samples = samples
        self.start = copy.deepcopy(self.model.state_dict()), copy.deepcopy(self.llava.state_dict())

    def run(self, name: str) -> Lap:
        """Let one of them train an epoch from the start."""
        self.model.load_state_dict(self.start[0])
        self.llava.load_state_dict(self.start[1])
        premade = DataLoader(Premade(self.batches), batch_size=None)
        runs: dict[str, Callable[[], None]] = {
            LIT_VLM: lambda: train_lit_vlm(self.model, self.data),
            PREMADE: lambda: train_lit_vlm(self.model, premade),
            BARE: lambda: train_bare(self.model, self.batches),
            TRANSFORMERS: lambda: train_transformers(self.llava, self.theirs),
        }
        wall, cpu = time.perf_counter(), time.process_time()
        runs[name]()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return Lap(self.samples / wall, cpu / self.samples, self._final_loss(name))

    @torch.no_grad()
    def _final_loss(self, name: str) -> float:
        if name == TRANSFORMERS:
            return float(self.llava.eval()(**self.theirs[0]).loss)
        loss = self.model.eval()(self.batches[0])
        self.model.train()
        return float(loss.total / loss.num_tokens)


def report(laps: dict[str, list[Lap]]) -> None:
    """Print the table: medians, and ratios of laps of the same round."""
    print("| | samples/s | lit-vlm's pace over it | its CPU time over lit-vlm's | final loss |")
    print("|---|---|---|---|---|")
    for name, those in laps.items():
        pairs = list(zip(laps[LIT_VLM], those, strict=True))
        pace = spread([ours.pace / other.pace for ours, other in pairs])
        cpu = spread([other.cpu / ours.cpu for ours, other in pairs])
        median = statistics.median(lap.pace for lap in those)
        print(f"| {name} | {median:.1f} | {pace} | {cpu} | {those[-1].loss:.4f} |")


def spread(ratios: list[float]) -> str:
    """Return the median, the least and the most."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Run the race and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1024, help="dialogues of an epoch")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=112, help="side, in pixels")
    parser.add_argument("--vocab-size", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=5, help="epochs of each contestant")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)

    race = Race(options.samples, options.batch_size, options.image_size, options.vocab_size)
    describe(race, options)
    names = (LIT_VLM, PREMADE, BARE, TRANSFORMERS)
    laps: dict[str, list[Lap]] = {name: [] for name in names}
    for repeat in range(options.repeats + 1):
        for name in names:
            lap = race.run(name)
            if repeat:  # the first round warms up
                laps[name].append(lap)
                print(f"round {repeat}, {name}: {lap.pace:.1f} samples/s", flush=True)
    print()
    report(laps)


def describe(race: Race, options: argparse.Namespace) -> None:
    """Print what is measured, and on what."""
    modules = (torch, lightning, transformers, timm)
    versions = ", ".join(f"{module.__name__} {module.__version__}" for module in modules)
    load = os.getloadavg()[0]
    rows = [batch.inputs for batch in race.batches if batch.inputs is not None]
    tokens = sum(int(row.attention_mask.sum()) for row in rows) / race.samples
    supervised = sum(int((row.labels != IGNORED).sum()) for row in rows) / race.samples
    sizes = {k: sum(p.numel() for p in v.parameters()) for k, v in race.model.parts.items()}
    print(f"{platform.python_implementation()} {platform.python_version()}, {versions}")
    print(f"{options.threads} threads, load {load:.1f} before the start, float32 on the CPU")
    print(f"{race.samples} samples of {tokens:.0f} tokens, {supervised:.1f} of them supervised")
    print("parameters: " + ", ".join(f"{k} {v:,}" for k, v in sizes.items() if v), flush=True)


if __name__ == "__main__":
    main()
