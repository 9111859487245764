"""Where each sample is in a local tar file, from its headers alone."""

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.shard_samples import SampleForm, import_webdataset

_META = re.compile(r"__[^/]*__($|/)")  # webdataset passes these members over
_BLOCK = 512

Span = tuple[int, int]


class ShardIndex(NamedTuple):
    """The samples of one shard.

    Attributes:
        spans: for each usable sample, where the members of its picture and of its captions begin
            and end in the file, headers included (N, 4).
        keys: for each, its key.
        endings: for each, number of the caption's ending among those of the form.
        problems: for each other sample, its key and what is wrong with it.
    """

    spans: NDArray[np.int64]
    keys: list[str]
    endings: NDArray[np.int64]
    problems: list[tuple[str, str]]


def index_shard(path: Path, form: SampleForm, folder: Path | None = None) -> ShardIndex:
    """Read the headers of a shard; the members themselves are not read.

    Args:
        path: the tar file.
        form: which members are wanted.
        folder: where indices are kept for the next time, until the shard changes; None to keep
            none.

    Raises:
        BadSampleError: if it is no tar file, is compressed or breaks off.
    """
    if folder is None:
        return _scan(path, form)
    state = path.stat()
    known = f"{path.absolute()} {state.st_size} {state.st_mtime_ns} {form}"
    digest = hashlib.blake2b(known.encode(), digest_size=8).hexdigest()
    kept = folder / f"{path.stem}-{digest}.npz"
    if kept.is_file():
        return _load(kept)
    index = _scan(path, form)
    _save(kept, index)
    return index


def count_in_headers(path: Path) -> int:
    """Return the number of samples in a shard, usable or not.

    Raises:
        BadSampleError: if it is no tar file, is compressed or breaks off.
    """
    return sum(1 for _ in _samples(path))


def _scan(path: Path, form: SampleForm) -> ShardIndex:
    spans: list[tuple[int, ...]] = []
    keys: list[str] = []
    endings: list[int] = []
    problems: list[tuple[str, str]] = []
    for key, members in _samples(path):
        try:
            picture, captions = form.members(members)
        except LookupError as error:
            problems.append((key, str(error)))
            continue
        spans.append((*members[picture], *members[captions]))
        keys.append(key)
        endings.append(form.captions.index(captions))
    places = np.array(spans, dtype=np.int64).reshape(-1, 4)
    return ShardIndex(places, keys, np.array(endings, dtype=np.int64), problems)


def _samples(path: Path) -> Iterator[tuple[str, dict[str, Span]]]:
    """Yield keys and members by their endings, grouped as webdataset groups them."""
    base_plus_ext = import_webdataset().tariterators.base_plus_ext
    current: str | None = None
    members: dict[str, Span] = {}
    for name, span in _members(path):
        key, ending = base_plus_ext(name)
        if key is None:
            continue
        if key != current:
            if current is not None:
                yield current, members
            current, members = key, {}
        if ending.lower() in members:
            raise BadSampleError(f"{path}: the sample {key} must have one .{ending}, got two.")
        members[ending.lower()] = span
    if current is not None:
        yield current, members


def _members(path: Path) -> Iterator[tuple[str, Span]]:
    name = "its first member"
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                name = member.name
                end = member.offset_data + member.size
                if member.isreg() and not _META.match(name):
                    yield name, (member.offset, end + -end % _BLOCK)
                shard.members = []  # type: ignore[attr-defined]  # or millions stay in memory
            _check_end(path, shard.offset)
    except tarfile.TarError as error:
        raise BadSampleError(
            f"{path}: must be a whole, uncompressed tar file, got one that cannot be read after "
            f"{name}: {error}. Fetch it again; read compressed shards by ResampledWebDataset."
        ) from error


def _check_end(path: Path, place: int) -> None:
    # Where a header is cut off, or missing, tarfile takes it for the end.
    with path.open("rb") as file:
        file.seek(place)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError("it has no end mark")


def _save(kept: Path, index: ShardIndex) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f"{kept.stem}-{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(
            file,
            spans=index.spans,
            keys=np.array(index.keys, dtype=str),
            endings=index.endings,
            problems=np.array(index.problems, dtype=str).reshape(-1, 2),
        )
    os.replace(part, kept)  # other ranks may be writing the same


def _load(kept: Path) -> ShardIndex:
    with np.load(kept) as held:
        problems = [(str(key), str(reason)) for key, reason in held["problems"]]
        return ShardIndex(held["spans"], held["keys"].tolist(), held["endings"], problems)
