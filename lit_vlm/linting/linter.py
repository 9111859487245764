"""Checking whole files of dialogues."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_vlm.conversation import Conversation
from lit_vlm.linting.lengths import LengthCheck
from lit_vlm.linting.pictures import Picture, look_at_all
from lit_vlm.linting.problems import Finding, Problem, place_of
from lit_vlm.linting.reading import Read, read_records
from lit_vlm.linting.rounds import Rounds
from lit_vlm.linting.samples import SampleCheck, Shown
from lit_vlm.linting.survey import Survey, sample_id, survey
from lit_vlm.processing import Processor

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Passes things on and shows how far it has come: things, what is done, how many there are."""


@dataclass(slots=True)
class FileReport:
    """What was found in a file.

    Attributes:
        path: the file.
        samples: number of samples, broken ones included.
        images: number of different image files that it names.
        images_found: number of those that are there.
        rounds: number of answers.
        text_only: number of samples that show no image.
        answer_words: words of each answer.
        asks_only: whether it holds questions and no answers.
        problems: in the order of the lines.
    """

    path: str
    samples: int = 0
    images: int = 0
    images_found: int = 0
    rounds: int = 0
    text_only: int = 0
    answer_words: "array[int]" = field(default_factory=lambda: array("L"))
    asks_only: bool = False
    problems: list[Problem] = field(default_factory=list)


class Linter:
    """Check files of dialogues, which are read twice: for their images, then for the rest.

    Args:
        paths: JSON lists or JSON Lines files.
        image_root: folder that relative image paths start from; None for each file's own.
        against: test files, whose images the others must not show.
        max_answer_words: most words that an answer should have.
        processor: a model's, to count tokens by; None for not at all.
        num_workers: number of threads that decode pictures.
        track: shows how far the work has come.

    Raises:
        FileNotFoundError: if there is no such file.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        image_root: Path | None = None,
        against: Sequence[Path] = (),
        max_answer_words: int = 1000,
        processor: Processor | None = None,
        num_workers: int = 1,
        track: Track = lambda things, what, total: things,
    ) -> None:
        self.track = track
        self.surveys = [survey(path, image_root) for path in paths]
        tests = [survey(path, image_root) for path in against]
        images = dict.fromkeys(path for s in (*self.surveys, *tests) for path in s.images)
        looks = look_at_all(list(images), num_workers)
        self.pictures: dict[str, Picture] = dict(track(looks, "pictures", len(images)))
        self.samples = SampleCheck(
            max_answer_words,
            self.pictures,
            _shown_in(tests, self.pictures),
            LengthCheck(processor) if processor is not None else None,
        )

    def reports(self) -> list[FileReport]:
        """Return what was found in each file."""
        return [self._report(found) for found in self.surveys]

    def _report(self, found: Survey) -> FileReport:
        report = FileReport(str(found.path), images=len(found.images), asks_only=found.asks_only)
        report.asks_only = found.asks_only and found.count > 0
        looks = [self.pictures[path].finding for path in found.images]
        report.images_found = sum(look is None or look.kind != "missing_image" for look in looks)
        rounds = Rounds()
        seen: dict[str, str] = {}
        reads = self.track(read_records(found.path), found.path.name, found.count)
        for read in reads:
            name = "" if read.broken else sample_id(read, found.path)
            index = -1 if read.broken else read.place
            findings = self._findings(read, found, rounds, report)
            if name in seen:
                message = f"must have an id of its own, got that of {seen[name]}"
                findings.append(Finding("duplicate_id", message))
            elif name:
                seen[name] = place_of(read.line, index, name)
            report.problems += [
                Problem(finding.kind, report.path, read.line, index, name, finding.message)
                for finding in findings
            ]
        if not found.count:
            message = "must hold at least one sample, got none"
            report.problems.append(Problem("no_samples", report.path, 0, -1, "", message))
        report.problems += self._same_images(found)
        return report

    def _findings(
        self, read: Read, found: Survey, rounds: Rounds, report: FileReport
    ) -> list[Finding]:
        report.samples += 1
        if read.broken:
            return [read.broken]
        findings, dialogue = self.samples.check(read.record, found.image_root, found.asks_only)
        if dialogue is not None:
            _count(dialogue, report)
            place = place_of(read.line, read.place, sample_id(read, found.path))
            findings += rounds.findings(dialogue, place, self.pictures)
        return findings

    def _same_images(self, found: Survey) -> Iterator[Problem]:
        first: dict[bytes, str] = {}
        for path, (line, index, name) in found.images.items():
            digest = self.pictures[path].digest
            if digest and (other := first.setdefault(digest, path)) != path:
                message = f"{path} shows what {other} shows, pixel for pixel"
                yield Problem("same_image", str(found.path), line, index, name, message)


def _shown_in(tests: Sequence[Survey], pictures: dict[str, Picture]) -> dict[bytes, Shown]:
    shown: dict[bytes, Shown] = {}
    for test in tests:
        for path, (line, index, name) in test.images.items():
            if digest := pictures[path].digest:
                shown.setdefault(digest, Shown(str(test.path), place_of(line, index, name), path))
    return shown


def _count(dialogue: Conversation, report: FileReport) -> None:
    answers = [turn.text for turn in dialogue.turns if turn.role == "assistant"]
    report.rounds += len(answers)
    report.text_only += not dialogue.images
    report.answer_words.extend(len(answer.split()) for answer in answers)
