"""Writing the good and the mended samples of checked files into a new one."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_vlm.linting.linter import Linter
from lit_vlm.linting.loose import FORMS
from lit_vlm.linting.mending import mend
from lit_vlm.linting.problems import Finding, Problem
from lit_vlm.linting.reading import Read, read_records
from lit_vlm.linting.survey import Survey, sample_id
from lit_vlm.whole_file import whole_file


@dataclass(slots=True)
class FixReport:
    """What became of the samples.

    Attributes:
        path: the new file.
        written: number of samples in it.
        mended: number of samples with each mend, by its name.
        left_out: the first error of each sample that is not in it.
        mended_samples: file, line, id and mends of each mended sample.
    """

    path: str
    written: int = 0
    mended: Counter[str] = field(default_factory=Counter)
    left_out: list[Problem] = field(default_factory=list)
    mended_samples: list[dict[str, Any]] = field(default_factory=list)


class Fixer:
    """Write what a check finds good, after mends that leave nothing to guess.

    Args:
        linter: has looked over the files.
        out: the JSON Lines file to write, whole or not at all.
        keep_paths: leave relative image paths as they are, since an image root is given for both.
    """

    def __init__(self, linter: Linter, out: Path, keep_paths: bool) -> None:
        self.linter = linter
        self.out = out
        self.keep_paths = keep_paths
        self._asks_only = all(found.asks_only for found in linter.surveys)
        self._taken: set[str] = set()
        self._numbers: defaultdict[str, int] = defaultdict(lambda: 2)
        self._known = {name for found in linter.surveys for name in found.ids}

    def write(self) -> FixReport:
        """Write the file and return what became of the samples."""
        report = FixReport(str(self.out))
        with whole_file(self.out) as file:
            for found in self.linter.surveys:
                for line in self._lines(found, report):
                    file.write(line)
        return report

    def _lines(self, found: Survey, report: FixReport) -> Iterator[str]:
        reads = self.linter.track(read_records(found.path), f"mends {found.path.name}", found.count)
        for read in reads:
            mended, done = mend(read.record, self._asks_only)
            if error := self._first_error(read, mended, found):
                name = "" if read.broken else sample_id(read, found.path)
                index = -1 if read.broken else read.place
                where = (read.line, index, name)
                report.left_out.append(Problem(error.kind, str(found.path), *where, error.message))
                continue
            done += self._give_id(mended, read, found)
            done += self._move(mended, found)
            report.written += 1
            report.mended.update(done)
            if done:
                place = {"file": str(found.path), "line": read.line, "index": read.place}
                report.mended_samples.append({**place, "id": mended["id"], "mends": done})
            yield _line(mended)

    def _first_error(self, read: Read, mended: Any, found: Survey) -> Finding | None:
        if read.broken:
            return read.broken
        findings, _ = self.linter.samples.check(mended, found.image_root, self._asks_only)
        return next((finding for finding in findings if finding.is_error), None)

    def _give_id(self, mended: dict[str, Any], read: Read, found: Survey) -> list[str]:
        name = sample_id(read, found.path)
        done = ["made_id"] if mended.get("id") is None else []
        if name in self._taken:
            done.append("unique_id")
            name = self._unique(name)
        self._taken.add(name)
        if done:
            mended["id"] = name
        return done

    def _unique(self, name: str) -> str:
        number = self._numbers[name]
        while (new := f"{name}-{number}") in self._taken or new in self._known:
            number += 1
        self._numbers[name] = number + 1
        return new

    def _move(self, mended: dict[str, Any], found: Survey) -> list[str]:
        old, new = found.image_root.resolve(), self.out.parent.resolve()
        if self.keep_paths or old == new:
            return []
        before = json.dumps(mended)
        _rewrite_paths(mended, old, new)
        return ["moved_paths"] if json.dumps(mended) != before else []


def _rewrite_paths(record: dict[str, Any], old: Path, new: Path) -> None:
    def moved(path: Any) -> Any:
        if not isinstance(path, str) or os.path.isabs(path):
            return path
        return os.path.relpath(old / path, new)

    for key in ("image", "images"):
        named = record.get(key)
        if named is not None:
            record[key] = [moved(p) for p in named] if isinstance(named, list) else moved(named)
    form = next(form for form in FORMS if form in record)
    for turn in record[form] if form == "messages" else []:
        for part in turn["content"] if isinstance(turn["content"], list) else []:
            for key in ("path", "image", "url"):
                if key in part:
                    part[key] = moved(part[key])


def _line(record: dict[str, Any]) -> str:
    text = json.dumps(record, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, in a field that nobody reads
        text = json.dumps(record)
    return f"{text}\n"
