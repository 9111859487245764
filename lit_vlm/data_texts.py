"""The texts of files of dialogues, past their bad samples."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lit_vlm.conversation import BadSampleError, Conversation
from lit_vlm.data.parsing import parse_conversation
from lit_vlm.linting.reading import read_records
from lit_vlm.linting.survey import sample_id


def good_dialogues(path: Path, image_root: Path | None = None) -> Iterator[Conversation]:
    """Yield the dialogues of a file that can be read; images are not looked at."""
    for read in read_records(path):
        if read.broken:
            continue
        try:
            yield parse_conversation(
                read.record,
                where=f"{path}:{read.line}",
                image_root=path.parent if image_root is None else image_root,
                default_id=sample_id(read, path),
            )
        except BadSampleError:
            continue


def file_texts(paths: Sequence[Path]) -> Iterator[str]:
    """Yield every turn's text, to train a tokenizer on."""
    for path in paths:
        for dialogue in good_dialogues(path):
            yield from (turn.text for turn in dialogue.turns)
