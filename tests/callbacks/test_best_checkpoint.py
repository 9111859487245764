from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lit_vlm.callbacks import BestCheckpoint


class ScriptedScores(LightningModule):
    """Somebody else's module, whose validation figures follow a script."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.scores = scores

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight * batch.sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/accuracy", self.scores[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("scores", "mode", "best_epoch"),
    [([0.1, 0.4, 0.2, 0.3], "max", 1), ([0.3, 0.2, 0.1, 0.4], "min", 2), ([0.5] * 4, "max", 0)],
)
def test_keeps_one_file_with_the_best_figure(
    tmp_path: Path, scores: list[float], mode: str, best_epoch: int
) -> None:
    best = BestCheckpoint(mode="max" if mode == "max" else "min")
    rows: Any = torch.ones(1, 1)
    loader: DataLoader[Tensor] = DataLoader(rows)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=len(scores),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=str(tmp_path),
        callbacks=[best],
    )
    trainer.fit(ScriptedScores(scores), loader, loader)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["best.ckpt"]
    content = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["epoch"] == best_epoch
    assert Path(best.best_model_path) == tmp_path / "checkpoints" / "best.ckpt"
