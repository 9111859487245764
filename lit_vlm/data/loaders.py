"""Loaders that yield whole batches and can be resumed."""

from typing import Any

import torch
from torch.utils.data import DataLoader

from lit_vlm.data.collation import Collator
from lit_vlm.data.datasets import ConversationDataset
from lit_vlm.data.sampling import BatchSampler


class BatchLoader(DataLoader[Any]):
    """A loader that tells Lightning it can resume; the data module keeps its position."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: see ``ConversationDataModule.state_dict``."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: the loader was made at the right position."""


def batch_loader(
    dataset: ConversationDataset,
    sampler: BatchSampler,
    num_workers: int,
    seed: int,
    pin_memory: bool,
) -> BatchLoader:
    """Return the loader of a dataset's batches.

    Args:
        dataset: reads the rows of a batch.
        sampler: yields whole batches.
        num_workers: processes that read beside this one; 0 to read in this one.
        seed: seed of the workers' own random numbers.
        pin_memory: whether batches are put where a GPU copies from fast.
    """
    return BatchLoader(
        dataset,
        sampler=sampler,
        batch_size=None,  # the sampler yields whole batches
        num_workers=num_workers,
        collate_fn=Collator(dataset.processor.pad_id, dataset.processor.image_size),
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        # Without its own, each new iterator draws from the generator that dropout draws from.
        generator=torch.Generator().manual_seed(seed),
    )
