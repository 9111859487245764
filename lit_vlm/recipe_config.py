"""What of a parsed config makes a recipe."""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from lit_vlm.class_names import classes_within, import_class
from lit_vlm.data.mixture import check_names
from lit_vlm.data.stage_batches import places_of
from lit_vlm.part_rates import PartLR
from lit_vlm.recipe import Curve, RecipeSource
from lit_vlm.stages import Stage
from lit_vlm.trainable import TrainableModule

WHOLE_RUN = "the whole run"
_ORDER = ("encoder", "fusion", "connector", "language_model")
_WITHOUT_WEIGHTS = ("PickLevel", "MeanLevels", "ConcatLevels", "ChannelConcat")


def recipe_source(config: dict[str, Any]) -> RecipeSource:
    """Read what trains when from a config, as plain dictionaries, of ``lit-vlm fit``.

    Raises:
        ValueError: if a stage says something that no stage can, or names data that there is not.
    """
    stages = _group(config, "staged_freezing", "StagedFreezing", "stages")
    rates = _group(config, "pretrained_lr", "PretrainedLR", "parts")
    trainer, model = config["trainer"], config["model"]
    options = model.get("init_args", {})
    kind = import_class(model["class_path"])
    ours = inspect.isclass(kind) and issubclass(kind, TrainableModule)
    if ours and hasattr(kind, "plan_of"):
        implied_stages, implied_rates = kind.plan_of(options)
        stages, rates = {**implied_stages, **stages}, {**implied_rates, **rates}
    made = {name: _made(Stage, stage) for name, stage in stages.items()}
    _check_data(config.get("data") or {}, made.values())
    return RecipeSource(
        parts=_parts(kind, options),
        stages=made or {WHOLE_RUN: Stage(trains=["*"], keeps_frozen=_frozen(config))},
        adapted=_adapted(options),
        rates={name: _made(PartLR, part) for name, part in rates.items()},
        learning_rate=options.get("learning_rate") if ours else None,
        curve=Curve(options["warmup"], options["schedule"], options["min_learning_rate"])
        if ours
        else None,
        max_steps=_limit(trainer["max_steps"]),
        max_epochs=_limit(trainer["max_epochs"]),
    )


def _check_data(data: dict[str, Any], stages: Iterable[Stage]) -> None:
    """Refuse names that the training sources do not have, if they have names."""
    train = data.get("init_args", {}).get("train")
    if not isinstance(train, dict) or "class_path" in train:
        return
    for stage in stages:
        places_of(list(stage.data), list(train))
    who = data.get("class_path", "data").rpartition(".")[2]
    check_names(who, list(train), data["init_args"].get("weights"))


def _group(config: dict[str, Any], key: str, callback: str, argument: str) -> dict[str, Any]:
    given = (config.get(key) or {}).get(argument)
    listed = (options.get(argument) for options in _callbacks(config, callback))
    return dict(given or next(listed, None) or {})


def _frozen(config: dict[str, Any]) -> list[str]:
    return [name for options in _callbacks(config, "Freeze") for name in options["parts"]]


def _callbacks(config: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    for callback in config["trainer"].get("callbacks") or []:
        path = callback.get("class_path", "") if isinstance(callback, dict) else ""
        if path.rpartition(".")[2] == name:
            yield callback.get("init_args", {})


def _made(kind: Any, options: Any) -> Any:
    if not isinstance(options, dict):
        return options
    return kind(**{name: _built(value) for name, value in options.items()})


def _built(value: Any) -> Any:
    if not isinstance(value, dict) or "class_path" not in value:
        return value
    return import_class(value["class_path"])(**value.get("init_args", {}))


def _parts(kind: Any, options: dict[str, Any]) -> list[str]:
    if named := getattr(kind, "part_names", ()):
        return list(named)
    found = [
        name
        for name, parameter in inspect.signature(kind).parameters.items()
        if any(issubclass(part, nn.Module) for part in classes_within(parameter.annotation))
        and _class_name(options.get(name)) not in _WITHOUT_WEIGHTS
    ]
    return sorted(found, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


def _class_name(given: Any) -> str:
    path = given["class_path"] if isinstance(given, dict) else getattr(given, "__name__", "")
    return str(path).rpartition(".")[2]


def _adapted(options: dict[str, Any]) -> list[str]:
    parts = {name: part for name, part in options.items() if isinstance(part, dict)}
    return [name for name, part in parts.items() if part.get("init_args", {}).get("lora")]


def _limit(value: int | None) -> int | None:
    return None if value is None or value < 0 else value
