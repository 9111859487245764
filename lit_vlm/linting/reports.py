"""What a check has found, as tables and as one JSON record."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lit_vlm.linting.fixing import FixReport
from lit_vlm.linting.linter import FileReport
from lit_vlm.linting.mending import MENDS
from lit_vlm.linting.problems import ABOUT, Problem, severity_of

_FIRST = 5
_COLORS = {"error": "red", "warning": "yellow", "info": "dim"}


def count_severities(reports: Sequence[FileReport]) -> Counter[str]:
    """Return the number of errors, warnings and infos."""
    return Counter(severity_of(problem.kind) for r in reports for problem in r.problems)


def as_tables(reports: Sequence[FileReport], fix: FixReport | None) -> RenderableType:
    """Return what to print: the files, the problems of each, and what was mended."""
    parts: list[RenderableType] = [_summary(reports)]
    for report in reports:
        parts += [_problems(report)] if report.problems else []
        parts += [_where_images_are(report)] if report.images and not report.images_found else []
    if fix is not None:
        parts.append(_fixed(fix, len(reports) > 1))
    return Group(*parts)


def as_record(reports: Sequence[FileReport], fix: FixReport | None) -> dict[str, Any]:
    """Return everything that was found, as JSON can hold it."""
    counts = count_severities(reports)
    record: dict[str, Any] = {
        "errors": counts["error"],
        "warnings": counts["warning"],
        "infos": counts["info"],
        "files": [_file_record(report) for report in reports],
    }
    if fix is not None:
        record["fix"] = {
            "file": fix.path,
            "written": fix.written,
            "mended": {name: fix.mended[name] for name in MENDS if name in fix.mended},
            "mended_samples": fix.mended_samples,
            "left_out": [asdict(problem) for problem in fix.left_out],
        }
    return record


def _summary(reports: Sequence[FileReport]) -> Table:
    table = Table(title="what was read")
    for name in ("file", "samples", "images", "rounds", "text only", "words per answer"):
        table.add_column(name, overflow="fold", justify="left" if name == "file" else "right")
    for report in reports:
        name = f"{report.path} (questions only)" if report.asks_only else report.path
        counts = (f"{n:,}" for n in (report.rounds, report.text_only))
        table.add_row(name, f"{report.samples:,}", _images(report), *counts, _spread(report))
    table.caption = "words per answer: least, median, most"
    return table


def _images(report: FileReport) -> str:
    named, found = report.images, report.images_found
    return f"{named:,}" if found == named else f"{named:,} named,\n{found:,} found"


def _spread(report: FileReport) -> str:
    words = report.answer_words
    return f"{min(words)}, {median(words):g}, {max(words)}" if words else "-"


def _problems(report: FileReport) -> Table:
    table = Table(title=f"problems in {report.path}", show_lines=True)
    table.add_column("problem")
    table.add_column("count", justify="right")
    table.add_column("where, and the first one", overflow="fold")
    for kind, problems in _by_kind(report.problems).items():
        severity = severity_of(kind)
        first = ", ".join(problem.place for problem in problems[:_FIRST])
        more = f" and {len(problems) - _FIRST:,} more" if len(problems) > _FIRST else ""
        about = f"{ABOUT[kind]}\n{first}{more}\n{problems[0].message}"
        color = _COLORS[severity]
        table.add_row(f"[{color}]{kind}\n({severity})", f"{len(problems):,}", escape(about))
    return table


def _where_images_are(report: FileReport) -> Text:
    return Text(
        f"No image of {report.path} was found: give --image_root, the folder that its paths start "
        f"from."
    )


def _fixed(fix: FixReport, names_files: bool) -> Table:
    table = Table(title=f"{fix.path}: {fix.written:,} samples written")
    table.add_column("what was done")
    table.add_column("samples", justify="right")
    for name in MENDS:
        if name in fix.mended:
            table.add_row(escape(f"{name}: {MENDS[name]}"), f"{fix.mended[name]:,}")
    for kind, problems in _by_kind(fix.left_out).items():
        places = (f"{p.file} {p.place}" if names_files else p.place for p in problems[:_FIRST])
        first = ", ".join(places)
        more = f" and {len(problems) - _FIRST:,} more" if len(problems) > _FIRST else ""
        table.add_row(escape(f"left out, {kind}: {first}{more}"), f"{len(problems):,}")
    if not table.rows:
        table.add_row("nothing to mend, nothing left out", "")
    return table


def _by_kind(problems: Sequence[Problem]) -> dict[str, list[Problem]]:
    found = {kind: [p for p in problems if p.kind == kind] for kind in ABOUT}
    return {kind: some for kind, some in found.items() if some}


def _file_record(report: FileReport) -> dict[str, Any]:
    words = report.answer_words
    return {
        "file": report.path,
        "samples": report.samples,
        "images": report.images,
        "images_found": report.images_found,
        "rounds": report.rounds,
        "text_only": report.text_only,
        "questions_only": report.asks_only,
        "words_per_answer": {"min": min(words), "median": median(words), "max": max(words)}
        if words
        else None,
        "problems": {
            kind: {
                "severity": severity_of(kind),
                "about": ABOUT[kind],
                "count": len(problems),
                "samples": [_sample_record(problem) for problem in problems],
            }
            for kind, problems in _by_kind(report.problems).items()
        },
    }


def _sample_record(problem: Problem) -> dict[str, Any]:
    record = asdict(problem)
    return {key: record[key] for key in ("line", "index", "id", "message")}
