"""``lit-vlm data``: files of dialogues checked and shown, and public data prepared."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lit_vlm.errors import ConfigError, nearest

DATA_SETS = {"emoji": "3,786 emoji and their names, drawn by two vendors (143 MB to download)"}
TOOLS = {
    "check": "what is wrong with files of dialogues, and a mended copy (--fix)",
    "show": "what a model sees of a sample: pictures, tokens, which of them are learnt",
}
_USAGE = """usage: lit-vlm data check FILE [FILE ...] [--fix OUT.jsonl] ...
       lit-vlm data show FILE [--index I] [--config FILE] [--output sample.html] ...
       lit-vlm data emoji OUT [--source FOLDER] [--overwrite] [--shards N]

Look at data, or write public data into the folder OUT, as the library's data sources read it.

tools, which have a --help of their own:
{tools}

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
        SystemExit: with 1 if a check finds errors.
    """
    name = words[0] if words else ""
    asks_help = "-h" in words or "--help" in words
    if name in TOOLS:
        _run_tool(name, words[1:], asks_help)
    elif asks_help:
        print(_USAGE.format(tools=_listed(TOOLS), listed=_listed(DATA_SETS)), end="")
    elif name in DATA_SETS:
        _prepare_emoji(words[1:])
    else:
        known = {**TOOLS, **DATA_SETS}
        listed = "; ".join(f"{word} ({about})" for word, about in known.items())
        got = repr(name) if name else "nothing"
        hint = nearest(name, known, list_all=False)
        raise ConfigError(f"data must be followed by one of: {listed}. Got {got}.{hint}")


def _listed(names: dict[str, str]) -> str:
    return "\n".join(f"  {name:<10}{about}" for name, about in names.items())


def _run_tool(name: str, words: Sequence[str], asks_help: bool) -> None:
    from lit_vlm import check_data, show_data

    tool = check_data if name == "check" else show_data
    if asks_help:
        print(tool.USAGE, end="")
    elif name == "check":
        check_data.check_data(words)
    else:
        show_data.show_data(words)


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
