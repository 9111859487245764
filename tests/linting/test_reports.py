import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from lit_vlm.linting.fixing import Fixer
from lit_vlm.linting.linter import Linter
from lit_vlm.linting.problems import ABOUT, severity_of
from lit_vlm.linting.reports import as_record, as_tables, count_severities

Sample = Callable[..., dict[str, Any]]


def test_writes_down_every_problem_and_prints_the_first(
    write: Callable[..., Path], folder: Path, sample: Sample
) -> None:
    bad = [sample(f"[b]{i}", question=f"<image>{i}", answer="") for i in range(7)]
    path = write([*bad, sample("8", answer=" red"), sample("9", "blue.png", "<image>?", "a b c d")])
    linter = Linter([path])
    reports = linter.reports()
    fix = Fixer(linter, folder / "out.jsonl", keep_paths=False).write()
    assert count_severities(reports) == {"error": 7, "warning": 1}

    record = json.loads(json.dumps(as_record(reports, fix)))
    [file] = record["files"]
    assert (record["errors"], record["warnings"], record["infos"]) == (7, 1, 0)
    assert (file["samples"], file["images"], file["rounds"], file["text_only"]) == (9, 2, 2, 0)
    assert file["words_per_answer"] == {"min": 1, "median": 2.5, "max": 4}
    empty = file["problems"]["empty_answer"]
    assert (empty["count"], empty["severity"]) == (7, "error")
    assert [(s["line"], s["id"]) for s in empty["samples"]] == [
        (i + 1, f"[b]{i}") for i in range(7)
    ]
    assert record["fix"]["written"] == 2
    assert record["fix"]["mended"] == {"trimmed_answer": 1}
    assert len(record["fix"]["left_out"]) == 7

    console = Console(width=200)
    with console.capture() as captured:
        console.print(as_tables(reports, fix))
    text = captured.get()
    assert "line 1 ([b]0), line 2 ([b]1)" in text
    assert "line 5 ([b]4) and 2 more" in text
    assert "empty_answer" in text
    assert "out.jsonl: 2 samples written" in text
    assert "1, 2.5, 4" in text


def test_names_the_file_of_what_is_left_out_where_there_are_several(
    write: Callable[..., Path], folder: Path, sample: Sample
) -> None:
    paths = [write([sample(name), sample("bad", answer="")], f"{name}.jsonl") for name in "ab"]
    linter = Linter(paths)
    fix = Fixer(linter, folder / "out.jsonl", keep_paths=False).write()
    console = Console(width=400)
    with console.capture() as captured:
        console.print(as_tables(linter.reports(), fix))
    left_out = f"empty_answer: {paths[0]} line 2 (bad), {paths[1]} line 2 (bad)"
    assert left_out in captured.get()


def test_counts_the_images_that_are_there(
    write: Callable[..., Path], folder: Path, sample: Sample
) -> None:
    path = write([sample("1"), sample("2", "no.png"), sample("3", "broken.png")])
    reports = Linter([path]).reports()
    console = Console(width=200)
    with console.capture() as captured:
        console.print(as_tables(reports, None))
    assert "3 named," in captured.get()
    assert "2 found" in captured.get()
    assert "--image_root" not in captured.get()
    [file] = as_record(reports, None)["files"]
    assert (file["images"], file["images_found"]) == (3, 2)


def test_every_kind_has_a_severity_and_says_what_it_is() -> None:
    assert {severity_of(kind) for kind in ABOUT} == {"error", "warning", "info"}
    assert all(about and not about.endswith(".") for about in ABOUT.values())
