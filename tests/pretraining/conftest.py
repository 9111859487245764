"""What tests of pretraining share: noisy pictures with captions, two small towers, a trainer."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader, Dataset

from lit_vlm.data.image_batches import PairBatch
from lit_vlm.data.loaders import BatchLoader
from lit_vlm.data.sampling import BatchSampler, TrainingOrder
from lit_vlm.encoders import TimmEncoder
from lit_vlm.language_models import TextEncoder
from lit_vlm.pretraining import ContrastivePretraining

CAPTIONS = [f"a {size} {color} dot" for size in ("big", "small") for color in ("red", "blue")]
SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 24,
}


class Pairs(LightningDataModule):
    """Pictures of noise with a caption each, of which every fourth is the same."""

    def __init__(self, count: int, side: int, batch_size: int) -> None:
        super().__init__()
        self.augment: Any = None
        noise = torch.Generator().manual_seed(count)
        self.images = torch.randint(0, 256, (count, 3, side, side), generator=noise).byte()
        self.batch_size = batch_size
        self.seen = 0
        self.position = 0

    def captions(self, index: int) -> list[str]:
        words = CAPTIONS[index % 4]
        return [words, words.replace("dot", "spot")]

    def training_texts(self) -> Iterator[str]:
        return iter(CAPTIONS)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.position = state_dict["position"]

    def state_dict(self) -> dict[str, Any]:
        assert self.trainer is not None
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        return {"position": progress.total.processed}

    def train_dataloader(self) -> Any:
        order = TrainingOrder(len(self.images), seed=3)
        world, rank = self._place
        sampler = BatchSampler(
            order, self.batch_size // world, world, rank, drop_last=True, position=self.position
        )

        def collate(slots: Any) -> PairBatch:
            return self.batch([slot.samples[0] for slot in slots], all_captions=False)

        draws = torch.Generator().manual_seed(0)
        return BatchLoader(
            _Slots(), sampler=sampler, batch_size=None, collate_fn=collate, generator=draws
        )

    def pictures_loader(self) -> Iterator[PairBatch]:
        for batch in self.val_dataloader():
            self.seen += len(batch)
            yield batch

    def val_dataloader(self) -> Any:
        world, rank = self._place
        mine: Any = list(range(rank, len(self.images), world))
        return DataLoader(mine, batch_size=5, collate_fn=lambda i: self.batch(i, all_captions=True))

    test_dataloader = val_dataloader

    def batch(self, index: Sequence[int], all_captions: bool) -> PairBatch:
        assert self.trainer is not None
        module: Any = self.trainer.lightning_module
        texts = [c for i in index for c in self.captions(i)[: 2 if all_captions else 1]]
        ids, mask = module.tokenize(texts)
        places = torch.tensor(index)
        wanted = all_captions or module.wants_images
        return PairBatch(
            images=self.images[places] if wanted else self.images[:0],
            index=places,
            input_ids=ids,
            attention_mask=mask,
            caption_index=places.repeat_interleave(2 if all_captions else 1),
            text_ids=places.repeat_interleave(2 if all_captions else 1) % 4,
        )

    @property
    def _place(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.world_size, self.trainer.global_rank


class _Slots(Dataset[Any]):
    """Returns a slot for itself."""

    def __getitem__(self, slot: Any) -> Any:
        return slot


class Losses(Callback):
    """Keep each step's loss."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps.append(float(outputs["loss"]))


@pytest.fixture
def pairs() -> Callable[..., Pairs]:
    """Make a data module of pictures and captions."""

    def make(count: int = 12, side: int = 32, batch_size: int = 6) -> Pairs:
        return Pairs(count, side, batch_size)

    return make


@pytest.fixture
def towers() -> Callable[..., ContrastivePretraining]:
    """Make two small towers, with the same weights every time."""

    def make(encoder: str = "test_resnet", pool: bool = False, **options: Any) -> Any:
        seed_everything(0, verbose=False)
        side = options.pop("side", 32)
        dropout = {"attention_dropout": options.pop("dropout", 0.0)}
        eye = TimmEncoder(
            encoder, image_size=side, pool=pool, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        )
        text = options.pop("text_encoder", None) or TextEncoder(config=SIZES | dropout)
        return ContrastivePretraining(eye, text, **{"learning_rate": 0.01, **options})

    return make


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., list[float]]:
    """Train on one CPU, or in several processes; return each step's loss."""

    def run(
        model: Any, data: Any, *callbacks: Callback, resume: Any = None, **options: Any
    ) -> list[float]:
        losses = Losses()
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "limit_val_batches": 0,
            "use_distributed_sampler": False,
            "max_epochs": 2,
            "default_root_dir": str(tmp_path),
        }
        trainer = Trainer(callbacks=[*callbacks, losses], **{**defaults, **options})
        trainer.fit(model, data, ckpt_path=resume)
        return losses.steps

    return run
