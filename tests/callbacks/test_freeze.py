from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lit_vlm.callbacks import Freeze


class Classifier(LightningModule):
    """Somebody else's module."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.head = nn.Linear(4, 2)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.head(self.body(batch)).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(model: LightningModule, freeze: Freeze, folder: Path) -> None:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=str(folder),
        callbacks=[freeze],
    )
    rows: Any = torch.randn(8, 2)
    trainer.fit(model, DataLoader(rows, batch_size=4))


def test_a_frozen_part_of_any_module_stands_still_with_its_statistics(tmp_path: Path) -> None:
    model = Classifier()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, Freeze(["body"]), tmp_path)
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert moved == {"head.weight", "head.bias"}
    assert not model.body.training
    assert model.head.training


def test_a_dotted_name_reaches_inside(tmp_path: Path) -> None:
    model = Classifier()
    fit(model, Freeze(["body.0"]), tmp_path)
    assert not model.body[0].weight.requires_grad
    assert model.body[1].weight.requires_grad


def test_a_pattern_and_a_parameter_can_be_named(tmp_path: Path) -> None:
    model = Classifier()
    fit(model, Freeze(["body.1-", "head.bias"]), tmp_path)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {"body.0.weight", "body.0.bias", "head.weight"}


@pytest.mark.parametrize("name", ["bodi", "", "body.7"])
def test_names_the_parts_when_one_is_unknown(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"must name modules of Classifier \(body, head and"):
        fit(Classifier(), Freeze([name]), tmp_path)
