"""What trains, before it does."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table
from torch import nn


class TrainableReport(Callback):
    """Print a table before the first step: each part, its parameters and how they train."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        self._print(trainer, pl_module)

    @rank_zero_only
    def _print(self, trainer: Trainer, pl_module: LightningModule) -> None:
        table = Table(title="what trains", padding=(0, 0))
        for column in ("part", "class"):
            table.add_column(column, overflow="fold")
        for column in ("parameters", "trainable", "dtype", "lr", "decay"):
            table.add_column(column, justify="right", overflow="fold")
        for row in trainable_rows(trainer, pl_module):
            table.add_row(*row)
        Console().print(table)


def trainable_rows(trainer: Trainer, pl_module: LightningModule) -> list[tuple[str, ...]]:
    """Return a row of texts per part: name, class, parameters, trainable, dtype, rate, decay."""
    parts: dict[str, nn.Module] = getattr(pl_module, "parts", None) or dict(
        pl_module.named_children()
    )
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    peak = getattr(pl_module, "learning_rate", None)
    rows: list[tuple[str, ...]] = []
    for name, part in parts.items():
        parameters = list(part.parameters())
        trainable = [p for p in parameters if p.requires_grad]
        owned = {id(p) for p in trainable}
        mine = [g for g in groups if any(id(p) in owned for p in g["params"])]
        rows.append(
            (
                name,
                type(part).__name__,
                f"{sum(p.numel() for p in parameters):,}",
                f"{sum(p.numel() for p in trainable):,}",
                _listed(str(p.dtype).removeprefix("torch.") for p in parameters),
                _listed(f"{_peak(g, peak):.3g}" for g in mine),
                _listed(f"{g.get('weight_decay', 0):g}" for g in mine),
            )
        )
    return rows


def _peak(group: dict[str, Any], peak: float | None) -> float:
    # In a resumed run the group holds the rate of the moment.
    return group["lr"] if peak is None else peak * group.get("lr_multiplier", 1.0)


def _listed(values: Any) -> str:
    return ", ".join(dict.fromkeys(values)) or "-"
