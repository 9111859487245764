"""A first look over a file of dialogues: ids, images, and whether it answers at all."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_vlm.data.listed_images import image_names
from lit_vlm.linting.loose import answers_of, is_list_text, make_out
from lit_vlm.linting.reading import Read, read_records


@dataclass(slots=True)
class Survey:
    """What a file of dialogues is about.

    Attributes:
        path: the file.
        image_root: folder that relative image paths start from.
        ids: how often each id is there.
        images: line, index and id of the sample that first shows each image, by its path.
        count: number of samples, broken ones included.
        asks_only: whether it holds questions and no answers, for ``lit-vlm predict``.
    """

    path: Path
    image_root: Path
    ids: Counter[str] = field(default_factory=Counter)
    images: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    count: int = 0
    asks_only: bool = True


def survey(path: Path, image_root: Path | None) -> Survey:
    """Look a file over.

    Args:
        path: a JSON list or a JSON Lines file.
        image_root: folder that relative image paths start from; None for the file's own.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    found = Survey(path, path.parent if image_root is None else image_root)
    for read in read_records(path):
        found.count += 1
        if read.broken:
            continue
        name = sample_id(read, path)
        found.ids[name] += 1
        for image in image_paths(read.record, found.image_root):
            found.images.setdefault(image, (read.line, read.place, name))
        if found.asks_only:
            found.asks_only = not any(answers_of(make_out(read.record)))
    return found


def sample_id(read: Read, path: Path) -> str:
    """Return the id that a sample has, or gets from its place."""
    given = read.record.get("id") if isinstance(read.record, dict) else None
    return f"{path.stem}-{read.place}" if given is None else str(given)


def image_paths(record: Any, root: Path) -> list[str]:
    """Return the paths of a sample's images, each once."""
    names = (name for name in image_names(record) if not is_list_text(name))
    return list(dict.fromkeys(str(root / name) for name in names))
