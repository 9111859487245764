"""What the model answered, as a file and as a table."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

from lit_vlm.predictions import Prediction
from lit_vlm.whole_file import whole_file

_METRIC = "test/accuracy"
_OWN = "the samples' own"


class AnswerReport(Callback):
    """Write answers to a JSON Lines file, and print the test's figures beside those of its probes.

    Args:
        output: the file; None for ``predictions.jsonl`` under the trainer's ``default_root_dir``.
    """

    def __init__(self, output: str | Path | None = None) -> None:
        self.output = Path(output) if output is not None else None
        self._made: list[Prediction] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the answers that were given to the samples' own images."""
        if dataloader_idx == 0:
            self._made += outputs["predictions"]

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the answers."""
        self._made += outputs["predictions"]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file and print the accuracies, and what the sources' metrics say."""
        self._write(trainer)
        figures = {k: float(v) for k, v in trainer.callback_metrics.items()}
        self._print_accuracies(figures)
        self._print_metrics(figures)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        made, self._made = self._made, []
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, made)
            made = [prediction for rank in gathered for prediction in rank]
        if trainer.is_global_zero:
            path = self.output or Path(trainer.default_root_dir) / "predictions.jsonl"
            write_predictions(path, made)
            print(f"{len({p.index for p in made}):,} answers are in {path}")

    @rank_zero_only
    def _print_accuracies(self, metrics: dict[str, float]) -> None:
        table = Table(title="does it look? exact match of generated answers")
        table.add_column("images")
        table.add_column("accuracy", justify="right")
        table.add_column("samples", justify="right")
        for name, value in metrics.items():
            if _is_accuracy(name) and not name.endswith("_samples"):
                samples = int(metrics[f"{name}_samples"])
                table.add_row(_images(name) or _OWN, f"{value:.2%}", f"{samples:,}")
        if table.row_count:
            Console().print(table)

    @rank_zero_only
    def _print_metrics(self, figures: dict[str, float]) -> None:
        """Print what is logged as ``test/SOURCE/METRIC`` with its samples, if anything is."""
        probes = [_images(name) for name in figures if _is_accuracy(name)]
        table = Table(title="metrics of each source's answers, as published: times 100")
        for column in ("source", "metric", "images"):
            table.add_column(column)
        table.add_column("x 100", justify="right")
        table.add_column("samples", justify="right")
        for name, value in figures.items():
            if f"{name}_samples" not in figures or _is_accuracy(name):
                continue
            source, _, metric = name.removeprefix("test/").rpartition("/")
            images = next((p for p in probes if p and metric.endswith(f"_{p}")), "")
            samples = int(figures[f"{name}_samples"])
            metric = metric.removesuffix(f"_{images}") if images else metric
            shown = f"{100 * value:.2f}" if samples else "-"
            table.add_row(source, metric, images or _OWN, shown, f"{samples:,}")
        if table.row_count:
            Console().print(table)


def _is_accuracy(name: str) -> bool:
    return name.startswith(_METRIC) and "/" not in name.removeprefix("test/")


def _images(name: str) -> str:
    return name.removeprefix(_METRIC).removeprefix("_")


def write_predictions(path: Path, predictions: list[Prediction]) -> None:
    """Write one line per sample, in the data's order; the file appears whole or not at all."""
    once = {prediction.index: prediction for prediction in predictions}
    with whole_file(path) as file:
        for index in sorted(once):
            file.write(once[index].to_json() + "\n")
