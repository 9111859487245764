import csv
from pathlib import Path

import pytest

from lit_vlm.csv_logger import AppendingCSVLogger, drop_rows_from


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def log(folder: Path, steps: range, **metrics: float) -> None:
    logger = AppendingCSVLogger(folder)
    for step in steps:
        logger.log_metrics({"loss": float(step), **metrics}, step)
        logger.save()


def test_writes_each_row_at_once(tmp_path: Path) -> None:
    logger = AppendingCSVLogger(tmp_path)
    logger.log_metrics({"loss": 1.5}, 0)
    logger.save()
    assert rows_of(tmp_path) == [{"loss": "1.5", "step": "0"}]


def test_a_resumed_run_continues_the_file_and_each_step_stands_once(tmp_path: Path) -> None:
    log(tmp_path, range(6))
    log(tmp_path, range(3, 8))
    assert [row["step"] for row in rows_of(tmp_path)] == [str(step) for step in range(8)]


def test_a_resumed_run_may_add_columns(tmp_path: Path) -> None:
    log(tmp_path, range(2))
    log(tmp_path, range(2, 3), accuracy=0.5)
    assert [row["accuracy"] for row in rows_of(tmp_path)] == ["", "", "0.5"]


@pytest.mark.parametrize("rest", ["4", "4,", '4,"', "4,1.5,6,7", "\x00\x00"])
def test_a_row_that_a_kill_cut_short_is_dropped(tmp_path: Path, rest: str) -> None:
    log(tmp_path, range(4))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write(rest)
    log(tmp_path, range(3, 5))
    assert [row["step"] for row in rows_of(tmp_path)] == ["0", "1", "2", "3", "4"]
    assert [row["loss"] for row in rows_of(tmp_path)] == ["0.0", "1.0", "2.0", "3.0", "4.0"]


def test_an_empty_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").touch()
    log(tmp_path, range(2))
    assert [row["step"] for row in rows_of(tmp_path)] == ["0", "1"]


def test_dropping_rows_of_no_file_does_nothing(tmp_path: Path) -> None:
    drop_rows_from(tmp_path / "metrics.csv", 3)
    assert list(tmp_path.iterdir()) == []
