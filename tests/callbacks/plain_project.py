"""Another project's module and data: a plain classifier that knows nothing of this library."""

from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class PlainClassifier(LightningModule):
    """Tell the sign of a sum."""

    def __init__(self, lr: float = 0.05, only_trainable: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.ReLU())
        self.neck = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)
        self.temperature = nn.Parameter(torch.zeros(()))
        self.lr = lr
        self.only_trainable = only_trainable

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.neck(self.body(rows))) * self.temperature.exp()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        rows, labels = batch
        loss = nn.functional.cross_entropy(self(rows), labels)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        rows, labels = batch
        self.log("val/accuracy", (self(rows).argmax(-1) == labels).float().mean())

    def configure_optimizers(self) -> Any:
        weights = self.parameters()
        if self.only_trainable:
            weights = (p for p in self.parameters() if p.requires_grad)
        return torch.optim.AdamW(weights, lr=self.lr)


class PlainData(LightningDataModule):
    """Random rows."""

    def __init__(self, rows: int = 24, batch_size: int = 4) -> None:
        super().__init__()
        self.rows = rows
        self.batch_size = batch_size

    def _loader(self, seed: int) -> DataLoader[Any]:
        rows = torch.randn(self.rows, 4, generator=torch.Generator().manual_seed(seed))
        labels = (rows.sum(1) > 0).long()
        own = torch.Generator().manual_seed(seed)  # draw nothing from the generator of dropout
        return DataLoader(TensorDataset(rows, labels), self.batch_size, generator=own)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(0)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(1)
