from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from lit_vlm.data import ImageTextDataModule, PairBatch, ResampledWebDataset, WebDatasetPairs

TwoRanks = Callable[[Callable[[], Any]], list[Any]]
BATCH, RANKS, STEPS = 3, 2, 12  # 24 samples: three epochs of four steps


def tokenize(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Take the number in "picture 12" for its only token."""
    ids = torch.tensor([[int(text.split()[1])] for text in texts])
    return ids, torch.ones_like(ids)


class Witness(LightningModule):
    """Note down which pictures come, and save a checkpoint after some step."""

    image_size = (4, 4)

    def __init__(self, save: Path | None, save_at: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.tokenize = tokenize
        self.seen: list[list[int]] = []
        self.judged: list[int] = []
        self.save, self.save_at = save, save_at

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        shades = batch.images[:, 0, 0, 0].long()
        assert torch.equal(shades, batch.index)
        assert torch.equal(batch.input_ids.flatten(), batch.index)
        self.seen.append(batch.index.tolist())
        return self.weight**2

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        self.judged += batch.index.tolist()

    def on_train_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int) -> None:
        if self.save is not None and len(self.seen) == self.save_at:
            self.trainer.save_checkpoint(self.save)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _run(source: Any, num_workers: int, folder: Path, **options: Any) -> Witness:
    resumed = options.pop("ckpt_path", None)
    module = Witness(**{"save": None, "save_at": 0, **options})
    data = ImageTextDataModule(
        source, source, batch_size=BATCH, eval_batch_size=5, num_workers=num_workers, seed=5
    )
    Trainer(
        accelerator="cpu",
        devices=RANKS,
        strategy="ddp",
        max_steps=STEPS,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    ).fit(module, data, ckpt_path=resumed)
    return module


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12
def test_two_ranks_with_two_workers_each_resume_within_an_epoch(
    three_shards: str, two_ranks: TwoRanks, tmp_path: Path
) -> None:
    makers: dict[str, tuple[Callable[[], Any], int]] = {
        # With another number of workers the exact mode goes on all the same.
        "exact": (lambda: WebDatasetPairs(three_shards), 1),
        "resampled": (lambda: ResampledWebDataset(three_shards, block_size=5), 2),
    }

    def job() -> Any:
        seen = {}
        for name, (make, workers) in makers.items():
            saved = tmp_path / f"{name}.ckpt"
            whole = _run(make(), 2, tmp_path, save=saved, save_at=6)
            rest = _run(make(), workers, tmp_path, ckpt_path=saved)
            assert rest.judged == whole.judged
            seen[name] = whole.seen, rest.seen, whole.judged
        return seen

    ranks = two_ranks(job)
    for rank in ranks:
        for whole, rest, _ in rank.values():
            assert len(whole) == STEPS
            assert rest == whole[6:]
    steps = list(zip(*(rank["exact"][0] for rank in ranks), strict=True))
    epochs = [list(chain.from_iterable(chain(*steps[i : i + 4]))) for i in (0, 4, 8)]
    assert all(Counter(epoch) == Counter(range(24)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    for name in makers:
        judged = Counter(chain.from_iterable(rank[name][2] for rank in ranks))
        assert sorted(judged) == list(range(24))
        assert judged.total() == 24
    one, other = (rank["resampled"][0] for rank in ranks)
    assert one != other
    assert set(chain.from_iterable(one + other)) == set(range(24))
