"""The words of a command line, completed by what configs and checkpoints say."""

import json
import mimetypes
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lit_vlm.asked_checkpoint import locate_checkpoint
from lit_vlm.checkpoints import data_config, model_config, read_checkpoint
from lit_vlm.config_files import find_config, read_config
from lit_vlm.errors import ConfigError
from lit_vlm.merged_plans import merged_plans
from lit_vlm.replaced_source import drop_metrics_of_replaced
from lit_vlm.run_folder import CHECKPOINTS
from lit_vlm.stage_names import check_stage_names

NO_MODEL = "{} must know a trained model, got none. Give --ckpt_path RUN/checkpoints/best.ckpt."
_STAGES = {"fit": "train", "validate": "val", "test": "test", "predict": "predict"}
_EVALUATION = "feature_evaluation"
_CONVERSATIONS = (".json", ".jsonl")
_CHOICES = ("--data", "--model", f"--{_EVALUATION}")
_SEPARATED = ("--config", "-c", "--ckpt_path", *_CHOICES)


def prepare_words(command: str, words: list[str]) -> list[str]:
    """Resolve config names, and put what a checkpoint knows before what the user says.

    ``--config NAME`` becomes a path, and so does ``--ckpt_path RUN_FOLDER``. ``--ckpt_path``
    supplies model and data to every command but ``fit``, unless a config or the command line names
    others; in the same way, the config beside it supplies ``feature_evaluation`` to ``validate``
    and ``test``. ``--data FILE.jsonl`` (or ``.json``) becomes a source that reads the file, in
    place of the one that the command would read; for ``predict``, ``--data FOLDER`` or a picture
    becomes the pictures in it.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        words: what follows it on the command line.

    Raises:
        ConfigError: if a config cannot be found or read, or a checkpoint must be named.
        FileNotFoundError: if the checkpoint or the data file is missing.
        ValueError: if the checkpoint is none of this library's.
    """
    words = _separate(words)
    if "-h" in words or "--help" in words:
        return words
    configured = _resolve_configs(words)
    _resolve_run_folders(command, words)
    file = _take_path(command, words)
    if file is not None and not file.endswith(_CONVERSATIONS):
        place = _behind(words, ("--config", "-c"))
        words[place:place] = ["--data", json.dumps(_images(file))]
        file = None
    chosen = configured | {word[2:] for word in words if word in _CHOICES}
    known: dict[str, Any] = {}
    checkpoint = _last_after("--ckpt_path", words)
    needed = {"model"} if file is not None and checkpoint is None else {"model", "data"}
    if command != "fit" and not needed <= chosen:
        content = _in_checkpoint(command, checkpoint, words)
        known = {key: value for key, value in content.items() if key not in chosen}
    if command in ("validate", "test") and checkpoint is not None and _EVALUATION not in chosen:
        known |= _evaluation_of_run(command, locate_checkpoint(checkpoint, words))
    if file is not None:
        if "data" not in chosen | known.keys():
            known["data"] = {"class_path": "lit_vlm.data.ConversationDataModule"}
        stage = _STAGES[command]
        drop_metrics_of_replaced(known.get("data", {}), stage)
        place = _behind(words, ("--config", "-c", "--data"))
        words[place:place] = [f"--data.{stage}", json.dumps(_source(file))]
    return [*(["--config", json.dumps(known)] if known else []), *words]


def _separate(words: list[str]) -> list[str]:
    """Split ``--config=x`` and the like into two words."""
    separate: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        separate += [name, value] if equals and name in _SEPARATED else [word]
    return separate


def _resolve_configs(words: list[str]) -> set[str]:
    """Replace names of configs by their paths, merge plans; return the keys that they give."""
    contents: list[dict[str, Any]] = []
    last = 0
    for place, word in enumerate(words[:-1], start=1):
        if word in ("--config", "-c"):
            words[place] = find_config(words[place])
            contents.append(read_config(words[place]))
            last = place
    check_stage_names(contents, words)
    if plans := merged_plans(contents):
        words[last + 1 : last + 1] = ["--config", json.dumps(plans)]
    return {key for content in contents for key, value in content.items() if value is not None}


def _resolve_run_folders(command: str, words: list[str]) -> None:
    """Replace run folders by the checkpoints to use of them."""
    for place, word in enumerate(words[:-1], start=1):
        if word == "--ckpt_path" and Path(words[place]).is_dir():
            words[place] = locate_checkpoint(words[place], words, to_go_on=command == "fit")


def _take_path(command: str, words: list[str]) -> str | None:
    """Remove ``--data PATH`` if a file or a folder is named, and return the path."""
    file = _last_after("--data", words)
    if file is None:
        return None
    if file.endswith(_CONVERSATIONS):
        if not Path(file).is_file():
            raise FileNotFoundError(
                f"--data must be a file of dialogues, got {file}: no such file."
            )
    elif not Path(file).exists():
        if "/" in file or (command == "predict" and not _may_be_class(file)):
            raise FileNotFoundError(f"--data must be a file or a folder, got {file}: not there.")
        return None
    elif command != "predict" or not _is_pictures(Path(file)):
        raise ConfigError(
            f"--data must be a .jsonl or .json file or a class, or, to predict an encoder's "
            f"features, a folder of images or an image, got {file}."
        )
    place = words.index(file) - 1
    del words[place : place + 2]
    return file


def _in_checkpoint(command: str, asked: str | None, words: list[str]) -> dict[str, Any]:
    if asked is None:
        raise ConfigError(NO_MODEL.format(command))
    content = read_checkpoint(locate_checkpoint(asked, words))
    data = data_config(content)
    return {"model": model_config(content), **({"data": data} if data else {})}


def _evaluation_of_run(command: str, checkpoint: str) -> dict[str, Any]:
    """Return how the run that wrote a checkpoint evaluates features, if its config is there."""
    folder = Path(checkpoint).parent
    config = folder.parent / "config.yaml"
    if folder.name != CHECKPOINTS or not config.is_file():
        return {}
    options = OmegaConf.select(OmegaConf.create(read_config(str(config))), _EVALUATION)
    if options is None:
        return {}
    found: Any = OmegaConf.to_container(options, resolve=True)
    if command == "validate":
        # How often it evaluates while it trains; now it is asked to.
        found.pop("every_n_validations", None)
    return {_EVALUATION: found}


def _may_be_class(word: str) -> bool:
    return "." in word or word[:1].isupper() or word.startswith("{")


def _images(place: str) -> dict[str, Any]:
    return {"class_path": "lit_vlm.data.ImageDataModule", "init_args": {"images": place}}


def _is_pictures(place: Path) -> bool:
    kind, _ = mimetypes.guess_type(place)
    return place.is_dir() or (kind or "").startswith("image/")


def _source(file: str) -> dict[str, Any]:
    # The folder of images is said to be the file's own, not that of the source it replaces.
    init_args = {"path": file, "image_root": None}
    return {"class_path": "lit_vlm.data.JSONConversations", "init_args": init_args}


def _behind(words: list[str], options: tuple[str, ...]) -> int:
    """Return the place behind what an addition replaces, and before options that change it."""
    return max((i + 2 for i, word in enumerate(words) if word in options), default=0)


def _last_after(option: str, words: list[str]) -> str | None:
    values = [value for word, value in zip(words, words[1:], strict=False) if word == option]
    return values[-1] if values else None
