"""Dialogues in JSON and JSON Lines files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lit_vlm.conversation import BadSampleError, Conversation
from lit_vlm.data.listed_images import image_names
from lit_vlm.data.parsing import parse_conversation
from lit_vlm.data.sources import ConversationSource, image_key


class JSONConversations(ConversationSource):
    """Read dialogues from a ``.json`` list or a ``.jsonl`` file, lazily.

    The file is scanned once for the place of each sample; after that a sample is read when it is
    asked for, so that worker processes never hold the list.

    Args:
        path: the file; samples in LLaVA's ``conversations`` form or in the ``messages`` form.
        image_root: folder that relative image paths start from; None for the file's own folder.
        on_bad_sample: ``error`` or ``skip``.
        max_skipped: most samples that may be skipped before the run stops.

    Raises:
        OSError: on ``prepare``, if the file is missing.
        BadSampleError: on ``prepare``, if it is empty or not JSON; on reading, if a sample cannot
            be used.
    """

    def __init__(
        self,
        path: str | Path,
        image_root: str | Path | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        max_skipped: int = 100,
    ) -> None:
        super().__init__(on_bad_sample, max_skipped)
        self.path = Path(path)
        self.image_root = Path(image_root) if image_root is not None else self.path.parent
        self._places: NDArray[np.int64] = np.zeros((0, 3), dtype=np.int64)
        self._keys: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._key_ends: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def rebuild_config(self) -> dict[str, Any]:
        """Name the files in full, whatever folder a later command starts in."""
        record = super().rebuild_config()
        absolute = {"path": self.path.absolute(), "image_root": self.image_root.absolute()}
        record["init_args"].update({name: str(path) for name, path in absolute.items()})
        return record

    def prepare(self) -> None:
        """Find each sample's place (first byte, bytes, line) and the images it names."""
        if not self.path.is_file():
            raise FileNotFoundError(
                f"JSONConversations: path must be a JSON or JSON Lines file, got {self.path}, "
                f"which does not exist."
            )
        places: list[_Place] = []
        keys: list[int] = []
        ends: list[int] = []
        for place, record in _scan(self.path):
            places.append(place)
            keys += [image_key(self.image_root / name) for name in image_names(record)]
            ends.append(len(keys))
        if not places:
            raise BadSampleError(f"{self.path}: must hold at least one sample, got none.")
        self._places = np.array(places, dtype=np.int64)
        self._keys = np.array(keys, dtype=np.int64)
        self._key_ends = np.array(ends, dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._places)

    def __getitem__(self, index: int) -> Conversation:
        """Read one sample from the file."""
        start, length, line = (int(value) for value in self._places[index])
        with self.path.open("rb") as file:
            file.seek(start)
            record = json.loads(file.read(length))
        return parse_conversation(
            record,
            where=f"{self.path}:{line}",
            image_root=self.image_root,
            default_id=f"{self.path.stem}-{index}",
        )

    def image_keys(self, index: int) -> tuple[int, ...]:
        """Return hashes of the sample's image paths."""
        start = self._key_ends[index - 1] if index else 0
        return tuple(self._keys[start : self._key_ends[index]].tolist())

    def lengths(self) -> NDArray[np.int64]:
        """Return the size of each sample in the file, in bytes."""
        return self._places[:, 1]


_Place = tuple[int, int, int]
_BOM = b"\xef\xbb\xbf"


def _scan(path: Path) -> Iterator[tuple[_Place, Any]]:
    with path.open("rb") as file:
        start = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
        file.seek(start)
        first = file.read(4096).lstrip()[:1]
        file.seek(start)
        if first == b"[":
            yield from _scan_list(_decode(file.read(), path, start), path, start)
            return
        for line, raw in enumerate(file, start=1):
            if raw.strip():
                yield (start, len(raw), line), _parse_line(_decode(raw, path, start), path, line)
            start += len(raw)


def _parse_line(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadSampleError(
            f"{path}:{line}: each line must be one whole JSON object, got one that breaks off or "
            f"is malformed at column {error.colno} ({error.msg})."
        ) from error


def _scan_list(text: str, path: Path, start: int) -> Iterator[tuple[_Place, Any]]:
    decode = json.JSONDecoder().raw_decode
    position, byte, line = text.index("[") + 1, start, 1
    counted = 0
    while True:
        position = _skip_spaces(text, position)
        if text[position : position + 1] == "]":
            _check_end(text, position + 1, path)
            return
        try:
            record, end = decode(text, position)
        except (json.JSONDecodeError, StopIteration) as error:
            where = text.count("\n", 0, position) + 1
            raise BadSampleError(
                f"{path}:{where}: must be a whole JSON list, but the sample that begins here "
                f"breaks off or is malformed ({error})."
            ) from error
        byte += len(text[counted:position].encode())
        line += text.count("\n", counted, position)
        counted = position
        yield (byte, len(text[position:end].encode()), line), record
        position = _skip_spaces(text, end)
        if text[position : position + 1] not in (",", "]"):
            where = text.count("\n", 0, position) + 1
            raise BadSampleError(
                f"{path}:{where}: must be a whole JSON list, but after the sample that ends here "
                f"neither a comma nor a closing bracket follows."
            )
        position += text[position] == ","


def _check_end(text: str, position: int, path: Path) -> None:
    position = _skip_spaces(text, position)
    if position < len(text):
        raise BadSampleError(
            f"{path}:{text.count(chr(10), 0, position) + 1}: nothing must follow the JSON list, "
            f"got {text[position : position + 30]!r}. Join the lists into one."
        )


def _skip_spaces(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\n", "\r", "\t"):
        position += 1
    return position


def _decode(raw: bytes, path: Path, start: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadSampleError(
            f"{path}: must be UTF-8, got the byte {raw[error.start]:#04x} at byte "
            f"{start + error.start}. Convert the file."
        ) from error
