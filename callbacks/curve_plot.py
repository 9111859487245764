"""A picture of a run."""

import csv
from collections.abc import Sequence
from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

_PANELS: dict[str, tuple[str, str]] = {
    "loss": ("loss", "nats per supervised token"),
    "accuracy": ("accuracy", "share of validation samples"),
    "lr": ("learning rate", "per part"),
}


class CurvePlot(Callback):
    """Draw losses, accuracy and learning rates from ``metrics.csv`` into ``curves.png``.

    It is drawn when training ends, also by an exception, and needs a CSV logger.
    """

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the whole run."""
        self._draw(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Draw what there is."""
        self._draw(trainer)

    @rank_zero_only
    def _draw(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.save()
                metrics = Path(logger.log_dir) / "metrics.csv"
                if metrics.is_file():
                    plot_curves(metrics, metrics.with_name("curves.png"))


def plot_curves(metrics: Path, picture: Path) -> None:
    """Draw the columns of a metrics file that end a panel's name, over optimizer steps."""
    from matplotlib.figure import Figure  # no pyplot: it keeps figures and picks a screen

    curves = read_curves(metrics)
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (kind, (title, unit)) in zip(
        figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True
    ):
        for name, (steps, values) in curves.items():
            if kind in (name.split("/")[0], name.split("/")[-1]) and not name.startswith("test"):
                axes.plot(steps, values, label=name, marker="." if len(steps) < 30 else None)
        axes.set(title=title, xlabel="optimizer step", ylabel=unit)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small")
    figure.savefig(picture, dpi=120)


def read_curves(metrics: Path) -> dict[str, tuple[Sequence[int], Sequence[float]]]:
    """Return steps and values of each column of a metrics file; empty cells are left out."""
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for row in rows:
        for name, cell in row.items():
            if cell and name not in ("step", "epoch"):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(int(row["step"]))
                values.append(float(cell))
    return dict(curves)
