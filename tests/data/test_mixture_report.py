import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from lit_vlm.data.mixture import Mixture
from lit_vlm.data.mixture_order import MixtureOrder
from lit_vlm.data.mixture_record import mixture_record, mixture_table
from lit_vlm.data.mixture_report import MixtureReport
from lit_vlm.data.rows import ShuffledRows
from lit_vlm.data.sampling import TrainingOrder
from lit_vlm.data.stage_batches import StagedPass
from lit_vlm.stages import Stage

MIXTURE = Mixture(("a", "b"), (0, 1), (3, 1))
GROUPS = [[0, 1], [2, 3], [4, 5]]


def order(advance: int | None = None) -> MixtureOrder:
    sources = {0: ShuffledRows(range(6), GROUPS, 2), 1: ShuffledRows(range(6, 11))}
    return MixtureOrder(sources, [Fraction(3), Fraction(1)], 0, advance)


def test_tells_proportions_of_rows_and_how_often_samples_come() -> None:
    record = mixture_record("tune", MIXTURE, order(), [6, 5])
    assert record == {
        "stage": "tune",
        "temperature": None,
        "rows_per_pass": 8,
        "sources": [
            {
                "name": "a",
                "samples": 6,
                "rows": 3,  # of two samples each
                "weight": 3,
                "share": 0.75,
                "rows_per_pass": 6.0,
                "passes_per_pass": 2.0,
            },
            {
                "name": "b",
                "samples": 5,
                "rows": 5,
                "weight": 1,
                "share": 0.25,
                "rows_per_pass": 2.0,
                "passes_per_pass": 0.4,
            },
        ],
    }
    console = Console(width=200)
    with console.capture() as captured:
        console.print(mixture_table(record))
    lines = captured.get().splitlines()
    assert "stage tune, sources: 8 rows a pass" in lines[0]
    assert [cell.strip() for cell in lines[4].split("│")[1:-1]] == [
        "a",
        "6",
        "3",
        "75.00%",
        "6",
        "2",
    ]


def test_what_a_pass_leaves_out_does_not_count() -> None:
    record = mixture_record(None, MIXTURE, order(advance=6), [6, 5])
    assert record["rows_per_pass"] == 6
    assert [source["rows_per_pass"] for source in record["sources"]] == [4.5, 1.5]


def told(
    staged: StagedPass, folder: Path, done: int, mixture: Mixture = MIXTURE, stages: str = ""
) -> tuple[MixtureReport, Any]:
    """Return a report that has begun, and a trainer in whose pass some batches of 2 are done."""
    progress = SimpleNamespace(current=SimpleNamespace(processed=done))
    trainer = SimpleNamespace(
        global_rank=0,
        fast_dev_run=False,
        default_root_dir=str(folder),
        global_step=done,
        callbacks=[SimpleNamespace(next_batches=None, stages=dict.fromkeys(stages.split()))],
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )
    report = MixtureReport()
    of_mixture = MixtureOrder(order().sources, mixture.shares([3, 5]), 0)
    report.tell(trainer, mixture, of_mixture, [6, 5], 2, staged)
    return report, trainer


def of(name: str, epoch: int = 0, begin: int = 0) -> StagedPass:
    return StagedPass(name, Stage(trains=["x"]), epoch, begin=begin, end=4, first=0)


def read_of(folder: Path) -> list[tuple[str, list[int | None]]]:
    mixtures = json.loads((folder / "mixture.json").read_text())["mixtures"]
    return [(m["stage"], [s["delivered_rows"] for s in m["sources"]]) for m in mixtures]


def test_writes_what_was_read_and_keeps_what_earlier_stages_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def written() -> list[tuple[str, list[int]]]:
        mixtures = json.loads((tmp_path / "mixture.json").read_text())["mixtures"]
        return [(m["stage"], [s["delivered_rows"] for s in m["sources"]]) for m in mixtures]

    report, trainer = told(of("one"), tmp_path, done=0)
    assert written() == [("one", [0, 0])]
    trainer.fit_loop.epoch_loop.batch_progress.current.processed = 4
    report.tell(trainer, MIXTURE, order(), [6, 5], 2, of("one", epoch=1))
    report.close()
    assert written() == [("one", [12, 4])]
    assert capsys.readouterr().out.count("rows a pass") == 2  # one table's title, and a column's
    trainer.fit_loop.epoch_loop.batch_progress.current.processed = 2
    report.tell(trainer, MIXTURE, order(), [6, 5], 2, of("two"))
    report.close()
    assert written() == [("one", [12, 4]), ("two", [3, 1])]
    assert "stage two" in capsys.readouterr().out

    told(of("two"), tmp_path, done=4)  # in a run that goes on
    assert written() == [("one", [12, 4]), ("two", [6, 2])]
    assert "stage two" in capsys.readouterr().out
    told(of("two"), tmp_path, done=0)  # in a new one
    assert written() == [("two", [0, 0])]


HALVES = Mixture(("a", "b"), (0, 1), (1, 1))


def test_counts_on_when_a_stage_goes_on_with_other_shares(tmp_path: Path) -> None:
    report, trainer = told(of("one"), tmp_path, done=0)
    trainer.fit_loop.epoch_loop.batch_progress.current.processed = 2
    report.close()
    assert read_of(tmp_path) == [("one", [3, 1])]
    report, trainer = told(of("one", begin=2), tmp_path, done=2, mixture=HALVES)
    assert read_of(tmp_path) == [("one", [3, 1])]
    trainer.fit_loop.epoch_loop.batch_progress.current.processed = 3
    report.close()
    assert read_of(tmp_path) == [("one", [4, 2])]  # not the [3, 3] of six rows by halves
    report, trainer = told(of("one", begin=3), tmp_path, done=3, mixture=HALVES)
    trainer.fit_loop.epoch_loop.batch_progress.current.processed = 4
    report.close()
    assert read_of(tmp_path) == [("one", [5, 3])]
    # From before the change, nobody knows.
    told(of("one", begin=1), tmp_path, done=1, mixture=HALVES)
    assert read_of(tmp_path) == [("one", [None, None])]
    told(of("one"), tmp_path, done=0, mixture=HALVES)
    assert read_of(tmp_path) == [("one", [0, 0])]


def test_says_why_rows_are_not_known(tmp_path: Path) -> None:
    told(of("one"), tmp_path, done=0)  # killed before it could write
    told(of("one", begin=2), tmp_path, done=2, mixture=HALVES)
    [mixture] = json.loads((tmp_path / "mixture.json").read_text())["mixtures"]
    assert [source["delivered_rows"] for source in mixture["sources"]] == [None, None]
    assert "elsewhere than where the last count was written" in mixture["note"]


def test_forgets_later_stages_when_an_earlier_one_goes_on(tmp_path: Path) -> None:
    for done, name in enumerate(("one", "two", "three")):
        told(of(name), tmp_path, done, stages="one two three")
    assert [name for name, _ in read_of(tmp_path)] == ["one", "two", "three"]
    told(of("two", begin=1), tmp_path, done=1, stages="one two three")
    assert [name for name, _ in read_of(tmp_path)] == ["one", "two"]


def test_says_nothing_without_a_trainer_or_of_one_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = MixtureReport()
    report.tell(None, MIXTURE, order(), [6, 5], 2, None)
    trainer = SimpleNamespace(global_rank=0)
    one = Mixture(("1",), (0,), named=False)
    report.tell(trainer, one, TrainingOrder(3, 0), [3], 2, None)
    report.tell(SimpleNamespace(global_rank=1), MIXTURE, order(), [6, 5], 2, None)
    report.close()
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())
