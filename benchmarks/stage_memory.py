"""Measure what each stage of a run keeps in memory, against a run that trains all from its start.

Each run is a process of its own on Linux, which tells the most memory that a process has held. The
stages are LLaVA's: first the connector trains alone, then the language model with it.

    python benchmarks/stage_memory.py
"""

import argparse
import logging
import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from PIL import Image

from lit_vlm import VisionLanguageModel
from lit_vlm.callbacks import Stage, StagedFreezing
from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.data import ConversationDataModule
from lit_vlm.data.sources import ConversationSource
from lit_vlm.encoders import CLIPEncoder
from lit_vlm.language_models import CausalLanguageModel
from lit_vlm.prompts import Plain

STAGES = {
    "align": Stage(trains=["connector"], steps=6),
    "tune": Stage(trains=["connector", "language_model"], steps=6),
}
PLANS = {
    "two stages": STAGES,
    "all from the start": {"whole": Stage(trains=["encoder", "connector", "language_model"])},
}
MEBI = 2**20


class Pictures(ConversationSource):
    """One picture in memory, and a question about it."""

    def prepare(self) -> None:
        """Draw it."""
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        self.picture = Image.fromarray(pixels)

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return 64

    def __getitem__(self, index: int) -> Conversation:
        """Return a dialogue."""
        question = Turn("user", (ImageContent(self.picture), f"what is picture {index}?"))
        return Conversation(str(index), (question, Turn("assistant", ("a picture",))))

    def image_keys(self, index: int) -> tuple[int, ...]:
        """Return the picture's key."""
        return (0,)

    def lengths(self) -> Any:
        """Return the length of each dialogue."""
        return np.ones(len(self), dtype=np.int64)


class Memory(Callback):
    """Note, at the end of each stage, the most memory held in it and the optimizer's share."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float, float]] = []

    def on_train_batch_start(self, trainer: Trainer, *unused: Any) -> None:
        """Begin to measure, behind the first step of a stage, which makes the optimizer state."""
        if trainer.global_step % 6 == 1:
            Path("/proc/self/clear_refs").write_text("5")  # the peak is the present again

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *unused: Any) -> None:
        """Write a stage's figures down."""
        if trainer.global_step % 6:
            return
        [optimizer] = trainer.optimizers
        held = sum(value.nbytes for state in optimizer.state.values() for value in state.values())
        gradients = sum(p.grad.nbytes for p in module.parameters() if p.grad is not None)
        self.rows.append((f"{len(self.rows) + 1}", held / MEBI, gradients / MEBI, _peak()))


def _peak() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def _run(plan: str, width: int, depth: int, answer: Connection) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    sizes = {"embed_dim": width, "depth": depth, "num_heads": 8, "patch_size": 16}
    eye = CLIPEncoder({**sizes, "image_size": 64}, layers=[-2], image_size=64)
    config = {"model_type": "llama", "vocab_size": 4000, "hidden_size": width}
    config |= {"intermediate_size": 4 * width, "num_hidden_layers": depth, "num_attention_heads": 8}
    model = VisionLanguageModel(eye, CausalLanguageModel(config=config), prompt=Plain())
    memory = Memory()
    with tempfile.TemporaryDirectory() as folder:
        staged = StagedFreezing(PLANS[plan], save_stages=False)
        trainer = Trainer(
            accelerator="cpu",
            callbacks=[staged, memory],
            max_steps=12,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(model, ConversationDataModule(Pictures(), batch_size=4))
    weights = sum(p.nbytes for p in model.parameters()) / MEBI
    answer.send((weights, memory.rows))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--depth", type=int, default=8)
    options = parser.parse_args()
    print("| run | stage | optimizer state, MiB | gradients, MiB | peak of the process, MiB |")
    print("|---|---|---|---|---|")
    weights = 0.0
    for plan, stages in PLANS.items():
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        words = (plan, options.width, options.depth, theirs)
        process = multiprocessing.get_context("spawn").Process(target=_run, args=words)
        process.start()
        weights, rows = ours.recv()
        process.join()
        names = [*stages, *stages][: len(rows)]
        for name, (_, held, gradients, peak) in zip(names, rows, strict=True):
            print(f"| {plan} | {name} | {held:,.1f} | {gradients:,.1f} | {peak:,.0f} |")
    print(f"\nWeights: {weights:,.1f} MiB, float32.")


if __name__ == "__main__":
    main()
