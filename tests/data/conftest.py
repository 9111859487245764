"""Pictures whose pixels tell their number: in a folder for each class, with captions, in shards."""

import importlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``reading_model.py``: a model that keeps what it reads, and what makes it read."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("reading_model")


@pytest.fixture
def numbered(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of pictures 0, 1, 2, ... in classes a, b, a, b, ...: red is ten times that.

    Beside them there is ``pairs.csv``, with one caption more for each picture of class b.
    """

    def write(count: int, name: str = "pictures", begin: int = 0) -> Path:
        root = tmp_path / name
        lines = ["image,caption"]
        for number in range(begin, begin + count):
            path = root / "ab"[number % 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (6, 4), (number * 10, 0, 0)).save(path)
            for caption in range(1 + number % 2):
                lines.append(f"{path.relative_to(root)},picture {number} text {caption}")
        (root / "pairs.csv").write_text("\n".join(lines) + "\n")
        return root

    return write


@pytest.fixture
def png() -> Callable[[int], bytes]:
    """Make the file of a picture of one grey."""

    def make(shade: int) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (4, 4), (shade, shade, shade)).save(file, "PNG")
        return file.getvalue()

    return make


@pytest.fixture
def write_shard(tmp_path: Path) -> Callable[..., Path]:
    """Write samples, each its members by their endings, as a WebDataset shard of a name."""
    import webdataset

    def write(name: str, samples: Mapping[str, Mapping[str, Any]]) -> Path:
        path = tmp_path / name
        with webdataset.TarWriter(str(path)) as shard:
            for key, members in samples.items():
                shard.write({"__key__": key, **members})
        return path

    return write


@pytest.fixture
def three_shards(
    tmp_path: Path, write_shard: Callable[..., Path], png: Callable[[int], bytes]
) -> str:
    """Three shards of 5, 11 and 8 samples, which count through: shade and caption are the place."""
    place = 0
    for number, size in enumerate((5, 11, 8)):
        samples = {}
        for within in range(size):
            samples[f"{within:04d}"] = {"png": png(place), "txt": f"picture {place}"}
            place += 1
        write_shard(f"train-{number:02d}.tar", samples)
    return str(tmp_path / "train-{00..02}.tar")
