"""Reading shards from beginning to end, by the library webdataset."""

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.shard_index import count_in_headers
from lit_vlm.data.shard_names import is_address
from lit_vlm.data.shard_samples import import_webdataset

_MAGIC = slice(257, 262)
_CHUNK = 1 << 20


def read_shard(shard: str) -> Iterator[dict[str, Any]]:
    """Yield the samples of a shard: ``__key__`` and members by their endings.

    Args:
        shard: a file, compressed or not, or an address or command that webdataset opens.

    Raises:
        BadSampleError: if it cannot be opened, or read to its end.
    """
    iterators = import_webdataset().tariterators
    try:
        with _opened(shard) as stream:
            files = iterators.tar_file_expander([{"url": shard, "stream": stream}])
            yield from iterators.group_by_keys(files)
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise BadSampleError(
            f"{shard}: must be a whole tar file, got one that cannot be read to its end: {reason}. "
            f"Fetch it again, or leave it out of shards."
        ) from error


def count_samples(shards: Sequence[str], counts: Path | None) -> list[int]:
    """Return the number of samples of each shard.

    Args:
        shards: files, addresses or commands.
        counts: a JSON object of the numbers by the shards' names, with or without their folders;
            written if it does not exist. None to read all shards through.

    Raises:
        BadSampleError: if a shard is not in ``counts``, or cannot be read.
    """
    if counts is not None and counts.is_file():
        return _known(shards, json.loads(counts.read_text(encoding="utf-8")), counts)
    if counts is None and any(map(is_address, shards)):
        rank_zero_warn(
            f"ResampledWebDataset: the samples of {len(shards)} shards must be counted, which "
            f"reads them all. Give counts: FILE, which keeps the numbers for the next time."
        )
    found = [_count(shard) for shard in shards]
    if counts is not None:
        counts.parent.mkdir(parents=True, exist_ok=True)
        part = counts.with_name(f".{counts.name}-{os.getpid()}.part")
        part.write_text(json.dumps(dict(zip(shards, found, strict=True)), indent=1) + "\n")
        os.replace(part, counts)  # other ranks may be writing the same
    return found


def short_name(shard: str) -> str:
    """Return a shard's name without its folder, or a command as it is."""
    return shard if shard.startswith("pipe:") else shard.rpartition("/")[2]


def _count(shard: str) -> int:
    if not is_address(shard):
        with open(shard, "rb") as file:
            if file.read(_MAGIC.stop)[_MAGIC] == b"ustar":  # else it is compressed
                return count_in_headers(Path(shard))
    return sum(1 for _ in read_shard(shard))


def _known(shards: Sequence[str], held: Any, counts: Path) -> list[int]:
    numbers = []
    for shard in shards:
        number = held.get(shard, held.get(short_name(shard))) if isinstance(held, dict) else None
        if not isinstance(number, int) or number < 0:
            raise BadSampleError(
                f"{counts}: must hold the number of samples of {shard}, got {number!r}. Write "
                f"{{NAME: NUMBER}}, or remove the file, and it is made anew."
            )
        numbers.append(number)
    return numbers


@contextmanager
def _opened(shard: str) -> Iterator[Any]:
    gopen = import_webdataset().tariterators.gopen  # the module; webdataset.gopen is its function
    stream = gopen.gopen(shard)
    try:
        yield stream
        if isinstance(stream, gopen.Pipe):
            # A command that failed may have sent what looks like a whole file.
            while stream.read(_CHUNK):
                pass
            stream.wait_for_child()
    except tarfile.TarError as error:
        if isinstance(stream, gopen.Pipe) and (status := _failure(stream)):
            raise OSError(f"{error} (its command ended with status {status})") from error
        raise
    finally:
        # What is not read to its end is no failure of the command that sent it.
        gopen.set_options(stream, ignore_errors=True)
        stream.close()


def _failure(stream: Any) -> int | None:
    try:
        return stream.proc.wait(timeout=0.3)
    except TimeoutExpired:  # it would send more
        return None
