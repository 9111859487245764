"""``lit-vlm data NAME OUT``: public data, as the library's data sources read it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lit_vlm.errors import ConfigError, nearest

DATA_SETS = {"emoji": "3,786 emoji and their names, drawn by two vendors (143 MB to download)"}
_USAGE = """usage: lit-vlm data emoji OUT [--source FOLDER] [--overwrite] [--shards N]

Write public data into the folder OUT, as the library's data sources read it.

data:
{listed}

  --source FOLDER   take the packages' files from there instead of downloading them
  --overwrite       make OUT anew
  --shards N        also write WebDataset shards, N for each vendor
"""


def prepare_data(words: Sequence[str]) -> None:
    """Run ``lit-vlm data``.

    Args:
        words: what follows it on the command line.

    Raises:
        ConfigError: if the command line is wrong.
        OSError: if the data cannot be had, or OUT may not be written.
        ValueError: if the data is not what it must be.
    """
    if "-h" in words or "--help" in words:
        listed = "\n".join(f"  {name:<10}{about}" for name, about in DATA_SETS.items())
        print(_USAGE.format(listed=listed), end="")
        return
    name = words[0] if words else ""
    if name not in DATA_SETS:
        listed = "; ".join(f"{known} ({about})" for known, about in DATA_SETS.items())
        got = repr(name) if name else "nothing"
        hint = nearest(name, DATA_SETS, list_all=False)
        raise ConfigError(f"data must be followed by a data set: {listed}. Got {got}.{hint}")
    _prepare_emoji(words[1:])


def _prepare_emoji(words: Sequence[str]) -> None:
    from lit_vlm.emoji import VENDORS, prepare_emoji

    options = _read_options(words)
    count = prepare_emoji(options.out, options.source, options.overwrite, options.shards)
    lists = " and ".join(str(options.out / f"{vendor}.jsonl") for vendor in VENDORS)
    print(f"{count:,} emoji each are in {lists}; licences: {options.out / 'licences'}")


def _read_options(words: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="lit-vlm data emoji", add_help=False, allow_abbrev=False)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--shards", type=int, default=0)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        known = [name for action in parser._actions for name in action.option_strings]
        raise ConfigError(f"unknown option {unknown[0]}.{nearest(unknown[0], known)}")
    options.out = options.out.absolute()
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise ConfigError(f"data emoji: {message.removeprefix('argument ')}.")
