"""The checkpoint that a command line asks for, before its configs are interpreted."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from omegaconf import OmegaConf

from lit_vlm.config_files import read_config
from lit_vlm.errors import ConfigError
from lit_vlm.run_folder import CHECKPOINTS, is_name, pick_checkpoint, resolve_checkpoint

_CONFIG = ("--config", "-c")
_ROOT = "trainer.default_root_dir"
_DEFAULT_ROOT = "runs"


def locate_checkpoint(asked: str, words: Sequence[str], to_go_on: bool = False) -> str:
    """Return the path of a checkpoint that is asked for by name, or by its run folder.

    Args:
        asked: what ``--ckpt_path`` says; another path is returned as it is.
        words: the command line, whose configs are paths.
        to_go_on: whether training goes on from it: of a run folder, from its last.

    Raises:
        ConfigError: if it is a name, and no run is named.
        FileNotFoundError: if the run has no such checkpoint.
    """
    if (Path(asked) / CHECKPOINTS).is_dir() and not is_name(asked):
        path = str(pick_checkpoint(Path(asked), to_go_on))
        rank_zero_info(f"--ckpt_path {asked}: {path} is used")
        return path
    if not is_name(asked):
        return asked
    folder = named_folder(words)
    if folder is None:
        raise ConfigError(
            f"--ckpt_path {asked} must come with the config of the run, got none. Give --config "
            f"too, or the path of a checkpoint or of the run folder."
        )
    return resolve_checkpoint(asked, folder)


def named_folder(words: Sequence[str]) -> Path | None:
    """Return the run folder that configs and options name; None if there are neither.

    Later configs win, and options over them; ``${...}`` is interpolated.
    """
    pairs = list(_options(words))
    trees = [read_config(value) for name, value in pairs if name in _CONFIG]
    options = [
        (name[2:], value) for name, value in pairs if name.startswith((f"--{_ROOT}", "--vars."))
    ]
    if not trees and not options:
        return None
    merged: Any = OmegaConf.merge(*trees) if trees else OmegaConf.create({})
    for name, value in options:
        OmegaConf.update(merged, name, value)
    return Path(OmegaConf.select(merged, _ROOT) or _DEFAULT_ROOT)


def _options(words: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for word, following in pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name.startswith("-"):
            pairs.append((name, value if equals else following))
    return pairs
