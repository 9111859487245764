"""A model that keeps what it reads."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from lit_vlm.callbacks import RNGState


def tokenize(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return a text's bytes."""
    width = max((len(text) for text in texts), default=1)
    ids = torch.tensor([[*text.encode().ljust(width, b"\0")] for text in texts], dtype=torch.long)
    return ids.reshape(len(texts), width), (ids.reshape(len(texts), width) > 0).long()


def read_texts(batch: Any) -> list[str]:
    """Return the captions of a batch."""
    return [bytes(row).rstrip(b"\0").decode() for row in batch.input_ids.tolist()]


class ReadingModel(LightningModule):
    """Keep each training batch; may save a checkpoint and stop."""

    image_size = (4, 6)
    resize = "pad"
    fill = (1, 2, 3)

    def __init__(self, stop_after: int | None = None, save_to: Path | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.stop_after = stop_after
        self.save_to = save_to
        self.read: list[Any] = []
        self.validated: list[Any] = []

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        return tokenize(texts)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.read.append(batch)
        return self.weight.sum()

    def on_train_batch_end(self, *unused: Any) -> None:
        if self.trainer.global_step == self.stop_after:
            self.trainer.save_checkpoint(self.save_to)  # type: ignore[arg-type]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated.append(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    model: LightningModule, data: Any, folder: Path, checkpoint: Any = None, **options: Any
) -> Trainer:
    """Train in a folder for three epochs, without a word."""
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"max_epochs": 3, "callbacks": [RNGState()], **options},
    )
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    return trainer


def on_rank(data: Any, rank: int, world_size: int, folder: Path | None = None) -> Any:
    """Give a data module a trainer that says it is one of several processes."""
    data.trainer = SimpleNamespace(
        world_size=world_size,
        global_rank=rank,
        lightning_module=ReadingModel(),
        callbacks=[],
        default_root_dir=os.fspath(folder or "."),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        limit_val_batches=1.0,
    )
    return data
