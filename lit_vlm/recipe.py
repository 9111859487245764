"""Who trains when, how long and how fast: a recipe, as a config tells it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from lit_vlm.errors import nearest
from lit_vlm.optim import Schedule
from lit_vlm.part_rates import PartLR
from lit_vlm.pattern_cover import any_covers, covers
from lit_vlm.recipe_lengths import Length, counted, stage_lengths
from lit_vlm.stage_lengths import check_lengths
from lit_vlm.stages import Stage


class Curve(NamedTuple):
    """How the learning rate goes in a stage; see ``schedule_factor``."""

    warmup: int | float
    schedule: Schedule
    floor: float


class Cell(NamedTuple):
    """What becomes of a part in a stage.

    Attributes:
        state: whether it trains, in part only, or is frozen.
        rate: its peak learning rate, if that is known.
        note: what the rate was made from, e.g. ``×0.1, decay 0.75`` (by layer).
    """

    state: Literal["trains", "in part", "frozen"]
    rate: float | None = None
    note: str = ""


class Column(NamedTuple):
    """A stage: its name, its length, its cells from the first part to the last."""

    name: str
    length: Length
    curve: Curve | None
    cells: list[Cell]
    extras: list[str]


class Recipe(NamedTuple):
    """Stages from left to right, parts and named pieces of them from top to bottom."""

    rows: list[str]
    columns: list[Column]


@dataclass(frozen=True, kw_only=True)
class RecipeSource:
    """What of a config makes a recipe.

    Attributes:
        parts: the model's parts, from pixels to text.
        stages: the stages by name.
        adapted: parts whose adapters train in their place.
        rates: what ``PretrainedLR`` says of parts.
        learning_rate: the module's peak learning rate; None if it keeps that to itself.
        curve: the module's own warm-up and schedule; None likewise.
        max_steps: where the run ends; None if it does not say.
        max_epochs: likewise.
    """

    parts: list[str]
    stages: Mapping[str, Stage]
    adapted: Sequence[str] = ()
    rates: Mapping[str, PartLR] = field(default_factory=dict)
    learning_rate: float | None = None
    curve: Curve | None = None
    max_steps: int | None = None
    max_epochs: int | None = None


def make_recipe(source: RecipeSource) -> Recipe:
    """Return the recipe, without any model.

    Raises:
        ValueError: if a stage has no length, or a name is almost that of a part.
    """
    check_lengths(source.stages)
    rows = _rows(source)
    for row in rows:
        top = row.partition(".")[0]
        # It may be a parameter of the model's own, unless a part is called almost like it.
        hint = nearest(top, source.parts, list_all=False)
        if top not in source.parts and hint:
            raise ValueError(
                f"StagedFreezing: what is named must be a part of the model "
                f"({', '.join(source.parts)}) or inside one, got {row!r}.{hint}"
            )
    lengths = stage_lengths(source.stages.values(), source.max_steps, source.max_epochs)
    columns = [
        Column(
            name,
            length,
            _curve(stage, source.curve),
            [_cell(row, rows, stage, source) for row in rows],
            _extras(stage),
        )
        for (name, stage), length in zip(source.stages.items(), lengths, strict=True)
    ]
    return Recipe(rows, columns)


def _rows(source: RecipeSource) -> list[str]:
    named = [name for stage in source.stages.values() for name in _named(stage)]
    pieces = dict.fromkeys(name for name in [*named, *source.rates] if _is_row(name))
    tops = dict.fromkeys([*source.parts, *(name.partition(".")[0] for name in pieces)])
    rows: list[str] = []
    for top in tops:
        rows.append(top)
        rows += [piece for piece in pieces if piece.startswith(f"{top}.")]
    return rows


def _named(stage: Stage) -> list[str]:
    return [*stage.trains, *stage.keeps_frozen, *stage.learning_rates]


def _is_row(name: str) -> bool:
    return not any(sign in name.partition(".")[0] for sign in "*?[")


def _cell(row: str, rows: list[str], stage: Stage, source: RecipeSource) -> Cell:
    inside = [other for other in rows if other.startswith(f"{row}.")]
    if any_covers(stage.keeps_frozen, row):
        return Cell("frozen")
    if not any_covers(stage.trains, row):
        some = any(any_covers(stage.trains, piece) for piece in inside)
        return Cell("in part") if some else Cell("frozen")
    state: Literal["trains", "in part"] = "trains"
    if any(any_covers(stage.keeps_frozen, piece) for piece in inside):
        state = "in part"
    adapters = ["adapters"] if any_covers(source.adapted, row) else []
    own = [rate for pattern, rate in stage.learning_rates.items() if covers(pattern, row)]
    if own:
        return Cell(state, own[-1], ", ".join(adapters))
    peak = stage.learning_rate or source.learning_rate
    part = _innermost(row, source.rates)
    note = ", ".join(adapters + _notes(part))
    return Cell(state, None if peak is None else peak * part.multiplier, note)


def _innermost(row: str, rates: Mapping[str, PartLR]) -> PartLR:
    fitting = [pattern for pattern in rates if covers(pattern, row)]
    if not fitting:
        return PartLR()
    return rates[max(reversed(fitting), key=lambda pattern: pattern.count("."))]


def _notes(part: PartLR) -> list[str]:
    notes = [f"×{part.multiplier:g}"] if part.multiplier != 1 else []
    return notes + ([f"decay {part.layer_decay:g}"] if part.layer_decay not in (None, 1) else [])


def _curve(stage: Stage, own: Curve | None) -> Curve | None:
    if own is None and not stage.says_rates:
        return None  # the module may have any schedule
    base = own or Curve(0, "constant", 0.0)
    return Curve(
        base.warmup if stage.warmup is None else stage.warmup,
        stage.schedule or base.schedule,
        base.floor if stage.min_learning_rate is None else stage.min_learning_rate,
    )


def _extras(stage: Stage) -> list[str]:
    extras = []
    if stage.image_size:
        extras.append(f"{stage.image_size} px")
    if stage.batch_size:
        extras.append(f"batches of {stage.batch_size}")
    if stage.accumulate_grad_batches:
        extras.append(f"{counted(stage.accumulate_grad_batches, 'batch', 'es')} a step")
    if stage.max_length:
        extras.append(f"{stage.max_length:,} tokens at most")
    if stage.prompt is not None:
        extras.append(f"prompt: {_class_name(stage.prompt)}")
    if stage.resize is not None:
        extras.append(f"pictures: {stage.resize}")
    if stage.temperature is not None:
        extras.append(f"temperature {stage.temperature:g}")
    return extras + ([f"data: {', '.join(_mixed(stage))}"] if stage.data else [])


def _mixed(stage: Stage) -> list[str]:
    if isinstance(stage.data, dict):
        return [f"{name} {weight:g}" for name, weight in stage.data.items()]
    return stage.data


def _class_name(prompt: Any) -> str:
    # A config that was only read holds its record.
    path = prompt["class_path"] if isinstance(prompt, dict) else type(prompt).__name__
    return str(path).rpartition(".")[2]
