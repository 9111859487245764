"""``lit-vlm show TOPIC``: what a config means, without a model, weights or data."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_vlm.errors import ConfigError, nearest

if TYPE_CHECKING:
    from rich.table import Table

    from lit_vlm.recipe import Cell, Column, Recipe

TOPICS = {"recipe": "who trains when, how long and at which learning rate"}
_USAGE = """usage: lit-vlm show recipe --config FILE [--config FILE ...] [--KEY VALUE ...]
                           [--output recipe.png]

Print and draw who trains when, how long and at which learning rate, as a config tells it. Nothing
is built, loaded or trained; configs and options are those of lit-vlm fit.

  --output FILE     the picture, .png, .pdf or .svg (default: recipe.png)
"""
_KINDS = (".png", ".pdf", ".svg")


def show(words: list[str]) -> None:
    """Run ``lit-vlm show``.

    Args:
        words: what follows it on the command line.

    Raises:
        ConfigError: if the topic, the command line or a config is wrong.
    """
    if "-h" in words or "--help" in words:
        print(_USAGE, end="")
        return
    topic = words[0] if words else ""
    if topic not in TOPICS:
        listed = "; ".join(f"{name} ({about})" for name, about in TOPICS.items())
        got = repr(topic) if topic else "nothing"
        hint = nearest(topic, TOPICS, list_all=False)
        raise ConfigError(f"show must be followed by a topic: {listed}. Got {got}.{hint}")
    _show_recipe(words[1:])


def _show_recipe(words: list[str]) -> None:
    from lit_vlm.config_reader import read_fit_config
    from lit_vlm.recipe import make_recipe
    from lit_vlm.recipe_config import recipe_source
    from lit_vlm.recipe_figure import draw_recipe

    config = read_fit_config(words)
    picture = Path(config.get("output") or "recipe.png")
    if picture.suffix not in _KINDS:
        raise ConfigError(f"--output must end in {', '.join(_KINDS)}, got {picture}.")
    recipe = make_recipe(recipe_source(config))
    _print(recipe)
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_recipe(recipe, picture)
    print(f"The figure is in {picture}")


def _print(recipe: "Recipe") -> None:
    from rich.console import Console

    Console().print(recipe_table(recipe))


def recipe_table(recipe: "Recipe") -> "Table":
    """Return a table to print: parts from top to bottom, stages from left to right."""
    from rich.table import Table

    table = Table(title="who trains when")
    table.add_column("part", overflow="fold")
    for column in recipe.columns:
        table.add_column(column.name, justify="right", overflow="fold")
    for place, row in enumerate(recipe.rows):
        table.add_row(row, *(_words(column.cells[place]) for column in recipe.columns))
    table.add_section()
    table.add_row("length", *(column.length.text for column in recipe.columns))
    table.add_row("schedule", *(_schedule(column) for column in recipe.columns))
    if any(column.extras for column in recipe.columns):
        table.add_row("batches", *("\n".join(column.extras) for column in recipe.columns))
    return table


def _words(cell: "Cell") -> str:
    from lit_vlm.recipe_figure import rate_text

    if cell.state == "frozen":
        return "frozen"
    rate = rate_text(cell.rate) if cell.rate is not None else "trains"
    words = f"{rate} ({cell.note})" if cell.note else rate
    return words if cell.state == "trains" else "in part"


def _schedule(column: "Column") -> str:
    if column.curve is None:
        return "the module's"
    warmup: Any = column.curve.warmup
    length = f"{100 * warmup:g}%" if isinstance(warmup, float) else f"{warmup:,} steps"
    end = f" to {column.curve.floor:g}" if column.curve.floor else ""
    return f"{column.curve.schedule}{end}, warm-up {length}" if warmup else column.curve.schedule
