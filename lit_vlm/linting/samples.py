"""All checks of one sample that need no other sample."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lit_vlm.conversation import BadSampleError, Conversation
from lit_vlm.data.parsing import parse_conversation
from lit_vlm.linting.box_places import check_boxes
from lit_vlm.linting.forms import check_form
from lit_vlm.linting.lengths import LengthCheck
from lit_vlm.linting.pictures import Picture, look_at
from lit_vlm.linting.problems import Finding
from lit_vlm.linting.survey import image_paths

_NAMELESS = "without an id"


class Shown(NamedTuple):
    """Where test files show a picture."""

    file: str
    place: str
    path: str


class SampleCheck:
    """Find what is wrong with a sample.

    Args:
        max_answer_words: most words that an answer should have.
        pictures: what the images are like, by path; others are looked at when they are met.
        in_test: the pictures that test files show, by the hash of their pixels.
        lengths: counts tokens; None for not at all.
    """

    def __init__(
        self,
        max_answer_words: int,
        pictures: dict[str, Picture],
        in_test: Mapping[bytes, Shown],
        lengths: LengthCheck | None = None,
    ) -> None:
        self.max_answer_words = max_answer_words
        self.pictures = pictures
        self.in_test = in_test
        self.lengths = lengths

    def check(
        self, record: Any, image_root: Path, asks_only: bool = False
    ) -> tuple[list[Finding], Conversation | None]:
        """Return the findings, and the dialogue if it can be read.

        Args:
            record: the decoded JSON value.
            image_root: folder that relative image paths start from.
            asks_only: whether questions stand without answers on purpose.
        """
        found = check_form(record, self.max_answer_words, asks_only)
        found += self._of_pictures(image_paths(record, image_root))
        try:
            dialogue = parse_conversation(
                record, where="", image_root=image_root, default_id=_NAMELESS
            )
        except BadSampleError as error:
            if not any(finding.is_error for finding in found):
                found.append(Finding("refused", _bare(str(error), record)))
            return found, None
        found += check_boxes(dialogue, self.pictures)
        if self.lengths is not None and not any(finding.is_error for finding in found):
            found += self.lengths.findings(dialogue)
        return found, dialogue

    def _of_pictures(self, paths: list[str]) -> list[Finding]:
        found = []
        for path in paths:
            if path not in self.pictures:
                self.pictures[path] = look_at(path)
            picture = self.pictures[path]
            if picture.finding:
                found.append(picture.finding)
            if shown := self.in_test.get(picture.digest):
                message = f"{path} must not be in the test data, got it in {shown.file}"
                message += f", {shown.place}, as {shown.path}"
                found.append(Finding("image_in_test", message))
        return found


def _bare(message: str, record: Any) -> str:
    # What the reader says of a sample begins with its id.
    given = record.get("id") if isinstance(record, dict) else None
    name = _NAMELESS if given is None else str(given)
    return message.removeprefix(f" (sample {name!r}): ").rstrip(".")
