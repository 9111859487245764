"""A CSV log that goes on when a run is resumed."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only


class AppendingCSVLogger(CSVLogger):
    """Write ``metrics.csv`` into a folder and keep the rows of the run that is resumed.

    Rows that a killed run wrote after its last checkpoint are written anew by the resumed run, so
    they are dropped when it logs its first step: each step stands once.

    Args:
        save_dir: the folder.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=1)
        self._resumed = False

    @property
    def experiment(self) -> Any:
        """The writer of the file."""
        if self._experiment is None:
            os.makedirs(self.log_dir, exist_ok=True)
            self._experiment = _AppendingWriter(log_dir=self.log_dir)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Add a row."""
        if not self._resumed and step is not None:
            drop_rows_from(Path(self.log_dir) / "metrics.csv", step)
            self._resumed = True
        super().log_metrics(metrics, step)


class _AppendingWriter(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:
        # Lightning deletes the file here.
        if os.path.isfile(self.metrics_file_path):
            with open(self.metrics_file_path, newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])


def drop_rows_from(path: Path, step: int) -> None:
    """Remove the rows of ``step`` and later from a metrics file, if there is one."""
    if not path.is_file():
        return
    with path.open(newline="", errors="replace") as file:
        # A killed run may have left half a row, a crashed computer null bytes.
        reader = csv.DictReader(line.replace("\0", "") for line in file)
        names = reader.fieldnames or []
        kept = [
            row for row in reader if (row.get("step") or "").isdigit() and int(row["step"]) < step
        ]
    part = path.with_suffix(".csv.part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
    os.replace(part, path)
