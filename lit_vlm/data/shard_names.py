"""Names of shards: braces, wildcards and addresses."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from lit_vlm.data.shard_samples import import_webdataset

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)  # longer than the drives of Windows


def is_address(shard: str) -> bool:
    """Return whether a shard is named by an address or a command (``pipe:``), not by a path."""
    return _ADDRESS.match(shard) is not None


def absolute(shard: str) -> str:
    """Return a name that means the same in any folder; it may still have braces."""
    return shard if is_address(shard) else os.path.abspath(shard)


def find_shards(owner: str, named: Sequence[str]) -> list[str]:
    """Return the shards that names with braces or wildcards mean, in order.

    Args:
        owner: the source's class, for messages.
        named: such as ``train-{000..127}.tar``, ``train-*.tar``, ``https://...-{0..9}.tar``.

    Raises:
        FileNotFoundError: if a local shard is missing.
        ValueError: if there are none, or one twice, or braces do not pair up.
    """
    expand = import_webdataset().shardlists.braceexpand.braceexpand
    shards = [
        found for name in named for shard in expand(name) for found in _matching(owner, shard)
    ]
    if not shards:
        raise ValueError(f"{owner}: shards must name a shard, got none.")
    if len(set(shards)) < len(shards):
        twice = next(shard for shard in shards if shards.count(shard) > 1)
        raise ValueError(f"{owner}: shards must name each shard once, got {twice} twice.")
    missing = [shard for shard in shards if not is_address(shard) and not Path(shard).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{owner}: each of the {len(shards)} shards must be there, but {len(missing)} are "
            f"missing, the first of them {missing[0]}. Correct shards, or fetch them."
        )
    return shards


def _matching(owner: str, shard: str) -> list[str]:
    if is_address(shard) or not glob.has_magic(shard) or Path(shard).exists():
        return [shard]
    found = sorted(glob.glob(shard))
    if not found:
        raise FileNotFoundError(f"{owner}: shards must name files, got {shard}, which fits none.")
    return found
