"""Command lines of ``lit-vlm data check`` and ``lit-vlm data show``."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lit_vlm.config_files import find_config
from lit_vlm.errors import ConfigError, nearest


class DataParser(argparse.ArgumentParser):
    """A parser that raises, for a command below ``lit-vlm data``.

    Args:
        command: its name.
    """

    def __init__(self, command: str) -> None:
        super().__init__(prog=f"lit-vlm data {command}", add_help=False, allow_abbrev=False)
        self.command = command

    def add_model_arguments(self) -> None:
        """Add the options that name a model."""
        self.add_argument("--config", "-c", action="append", default=[])
        self.add_argument("--ckpt_path")
        self.add_argument("--stage")

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise ConfigError(f"data {self.command}: {message.removeprefix('argument ')}.")


def read_words(
    parser: DataParser, words: Sequence[str]
) -> tuple[argparse.Namespace, Sequence[str]]:
    """Return the options, and the words that are none.

    Raises:
        ConfigError: if an option is wrong, or unknown where no config is given that it could
            change; or there is no such folder of images, or no config that has a stage.
    """
    options, unknown = parser.parse_known_args(words)
    if unknown and not options.config:
        known = [name for action in parser._actions for name in action.option_strings]
        if not unknown[0].startswith("-"):
            raise ConfigError(f"data {parser.command}: unknown word {unknown[0]!r}.")
        raise ConfigError(f"unknown option {unknown[0]}.{nearest(unknown[0], known)}")
    root = options.image_root
    if root is not None and not root.is_dir():
        raise ConfigError(f"data {parser.command}: --image_root must be a folder, got {root}.")
    if options.stage is not None and not options.config:
        options.config = [_run_config(options.ckpt_path, parser.command)]
    return options, unknown


def _run_config(ckpt_path: str | None, command: str) -> str:
    if ckpt_path is None:
        raise ConfigError(f"data {command}: --stage must come with --config, got none.")
    from lit_vlm.run_folder import CHECKPOINTS

    path = Path(ckpt_path)
    folder = path if (path / CHECKPOINTS).is_dir() else path.absolute().parent.parent
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"data {command}: --stage must come with the config whose stage it is, got "
            f"--ckpt_path {ckpt_path} and no {folder / 'config.yaml'}. Give --config, too."
        )
    return str(folder / "config.yaml")


def model_words(options: argparse.Namespace, unknown: Sequence[str]) -> list[str]:
    """Return the words of ``lit-vlm fit`` that name the model.

    Raises:
        ConfigError: if there is no such config.
    """
    paths = [find_config(name) for name in options.config]
    return [word for path in paths for word in ("--config", path)] + list(unknown)
