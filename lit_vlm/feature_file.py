"""A safetensors file that is written row by row, by one process or several."""

import json
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a file of features holds.

    Attributes:
        num_rows: first axis of every tensor.
        shapes: the other axes of each tensor, by name.
        dtype: floating-point type of all of them.
        metadata: texts that are stored beside them.
    """

    num_rows: int
    shapes: Mapping[str, Sequence[int]]
    dtype: torch.dtype
    metadata: Mapping[str, str]


class FeatureFile:
    """Write rows of tensors into a safetensors file, which need not fit into memory.

    It is ``FILE.part`` until ``finish`` renames it, so that a file of that name is a whole one.

    Args:
        path: the file.
        layout: what it will hold; the same on all processes that write to it.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.layout = layout
        self._part = path.with_name(path.name + ".part")
        self._header, self._offsets, self._size = _header(layout)
        self._rows: dict[str, Tensor] = {}

    def create(self) -> None:
        """Make the file, all zeros; on one process only."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._part.open("wb") as file:
            file.write(self._header)
            file.truncate(len(self._header) + self._size)

    def open(self) -> None:
        """Open the file that one process has made."""
        with self._part.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
        content = torch.frombuffer(mapped, dtype=torch.uint8)[len(self._header) :]
        for name, shape in self.layout.shapes.items():
            begin, end = self._offsets[name]
            rows = content[begin:end].view(self.layout.dtype)
            self._rows[name] = rows.view(self.layout.num_rows, *shape)

    def write(self, name: str, index: Tensor, values: Tensor) -> None:
        """Put values into the rows ``index`` of a tensor."""
        self._rows[name][index] = values.to(self.layout.dtype)

    def finish(self) -> None:
        """Give the file its name; on one process only, when all have written."""
        self._rows = {}
        os.replace(self._part, self.path)

    def discard(self) -> None:
        """Remove what was written so far."""
        self._rows = {}
        self._part.unlink(missing_ok=True)


def _header(layout: Layout) -> tuple[bytes, dict[str, tuple[int, int]], int]:
    # https://github.com/huggingface/safetensors#format: a length, JSON, then the bare tensors.
    entries: dict[str, object] = {"__metadata__": dict(layout.metadata)}
    offsets: dict[str, tuple[int, int]] = {}
    position = 0
    for name, shape in layout.shapes.items():
        size = layout.dtype.itemsize * layout.num_rows
        for axis in shape:
            size *= axis
        offsets[name] = (position, position + size)
        entries[name] = {
            "dtype": _NAMES[layout.dtype],
            "shape": [layout.num_rows, *shape],
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, offsets, position
