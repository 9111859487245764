"""What pictures are like, each decoded whole and once."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from lit_vlm.images import read_image
from lit_vlm.linting.problems import Finding

_SHORTEST, _MOST_PIXELS, _NARROWEST = 10, 50_000_000, 10
_AT_A_TIME = 256


class Picture(NamedTuple):
    """What was found of an image file.

    Attributes:
        size: width and height as it is seen, turned by its EXIF tag; (0, 0) if it is not read.
        digest: hash of the size and the decoded RGB pixels; empty if it is not read.
        finding: what is wrong with it, if anything.
    """

    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    finding: Finding | None = None


def look_at(path: str) -> Picture:
    """Decode a picture whole."""
    if not Path(path).is_file():
        why = "is a URL; download it" if "://" in path or ":/" in path else "is no file"
        return Picture(finding=Finding("missing_image", f"the image {path} {why}"))
    try:
        image = read_image(path)
    except ValueError as error:
        return Picture(finding=Finding("corrupt_image", str(error)))
    digest = hashlib.blake2b(f"{image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return Picture(image.size, digest.digest(), _extreme(path, image.size))


def look_at_all(paths: Sequence[str], num_workers: int) -> Iterator[tuple[str, Picture]]:
    """Decode pictures on several threads, which Pillow's decoders and the hash leave free.

    Args:
        paths: the files, each once.
        num_workers: number of threads.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(num_workers) as pool:
        # Its size is a finding of ours, and above twice that Pillow refuses.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for start in range(0, len(paths), _AT_A_TIME):
            some = paths[start : start + _AT_A_TIME]
            yield from zip(some, pool.map(look_at, some), strict=True)


def _extreme(path: str, size: tuple[int, int]) -> Finding | None:
    shorter, longer = sorted(size)
    shape = f"got {size[0]} x {size[1]}"
    if shorter < _SHORTEST:
        message = f"the image {path} should have at least {_SHORTEST} pixels a side, {shape}"
    elif shorter * longer > _MOST_PIXELS:
        message = f"the image {path} should have at most {_MOST_PIXELS:,} pixels, {shape}"
    elif longer > _NARROWEST * shorter:
        message = f"the image {path} should be at most {_NARROWEST} times as long as wide, {shape}"
    else:
        return None
    return Finding("extreme_image", message)
