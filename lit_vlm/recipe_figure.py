"""A picture of a recipe: parts from top to bottom, stages from left to right."""

from itertools import accumulate
from pathlib import Path
from typing import Any

from lit_vlm.optim import schedule_factor
from lit_vlm.recipe import Cell, Column, Curve, Recipe
from lit_vlm.recipe_lengths import Length

# Blue, its tint and grey differ in lightness too, for all eyes and for print in grey.
_COLORS = {"trains": "#2f6690", "in part": "#a9c8de", "frozen": "#ececec"}
_INK = {"trains": "white", "in part": "#1d3f58", "frozen": "#757575"}
_NARROWEST = 0.18  # share of the width that a column's words need
_POINTS = 400


def draw_recipe(recipe: Recipe, picture: Path) -> None:
    """Draw who trains when, and the learning rate's course below it, into a file.

    Args:
        recipe: what to draw.
        picture: the file, of a kind that matplotlib writes.
    """
    from matplotlib.figure import Figure  # no pyplot: it keeps figures and picks a screen

    rows, columns = recipe.rows, recipe.columns
    width = max(7.5, 2.2 + 1.9 * len(columns))
    heights = [0.45 * len(rows), 1.0]
    figure = Figure(figsize=(width, 1.7 + sum(heights)), layout="constrained")
    grid, curves = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    edges = [0.0, *accumulate(column_widths([column.length for column in columns]))]
    for column, left, right in zip(columns, edges, edges[1:], strict=False):
        _draw_column(grid, column, left, right)
        _draw_curve(curves, column, left, right)
    _label_axes(grid, curves, recipe, edges)
    _add_legend(figure, recipe)
    figure.savefig(picture, dpi=120)


def column_widths(lengths: list[Length]) -> list[float]:
    """Return the share of the width that each stage has: by its length, if all are known alike.

    Short stages are widened to what their words need.
    """
    amounts = [length.amount for length in lengths if length.amount is not None]
    if len(amounts) < len(lengths) or len({length.unit for length in lengths}) > 1:
        amounts = [1.0] * len(lengths)
    least = min(_NARROWEST, 1 / len(amounts))
    shares = [amount / sum(amounts) for amount in amounts]
    narrow = [share < least for share in shares]
    wide = sum(share for share, small in zip(shares, narrow, strict=True) if not small)
    room = 1 - least * sum(narrow)
    return [
        least if small else share / wide * room for share, small in zip(shares, narrow, strict=True)
    ]


def rate_text(rate: float) -> str:
    """Return a learning rate as people write it: ``2e-5``."""
    digits, _, power = f"{rate:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


def curve_points(curve: Curve, length: Length) -> list[float] | None:
    """Return the course of a stage's learning rate; None if its warm-up has an unknown share."""
    total = length.amount if length.unit == "steps" else None
    if total is None and isinstance(curve.warmup, int) and curve.warmup > 0:
        return None
    steps = round(total) if total is not None else _POINTS
    places = [i * steps // _POINTS for i in range(_POINTS)] if steps > _POINTS else range(steps)
    return [schedule_factor(step, steps, *curve) for step in places]


def _draw_column(axes: Any, column: Column, left: float, right: float) -> None:
    from matplotlib.patches import Rectangle

    for place, cell in enumerate(column.cells):
        box = Rectangle(
            (left, place),
            right - left,
            1,
            facecolor=_COLORS[cell.state],
            edgecolor="white",
            linewidth=2,
            hatch="///" if cell.state == "in part" else None,
        )
        axes.add_patch(box)
        _write(axes, (left + right) / 2, place + 0.5, cell)
    _write_head(axes, (left + right) / 2, column)


def _write(axes: Any, x: float, y: float, cell: Cell) -> None:
    ground = {"facecolor": _COLORS[cell.state], "edgecolor": "none", "pad": 1.5}
    axes.text(
        x,
        y,
        _label(cell),
        color=_INK[cell.state],
        ha="center",
        va="center",
        size="small" if cell.note else "medium",
        bbox=ground if cell.state == "in part" else None,  # words over hatching
    )


def _write_head(axes: Any, middle: float, column: Column) -> None:
    lines = [column.length.text, *column.extras]
    axes.text(middle, -0.06, "\n".join(lines), ha="center", va="bottom", size="small")
    axes.annotate(
        column.name,
        (middle, -0.06),
        xytext=(0, 12 * len(lines) + 2),
        textcoords="offset points",
        ha="center",
        va="bottom",
        weight="bold",
        annotation_clip=False,
    )


def _label_axes(grid: Any, curves: Any, recipe: Recipe, edges: list[float]) -> None:
    rows = recipe.rows
    grid.set(xlim=(0, 1), ylim=(len(rows), -0.02))
    grid.set_yticks([place + 0.5 for place in range(len(rows))], [_indented(r) for r in rows])
    curves.set(ylim=(0, 1.12), yticks=(0, 0.5, 1), ylabel="learning rate,\nshare of peak")
    _draw_steps(curves, recipe.columns, edges)
    for axes in (grid, curves):
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)


def _label(cell: Cell) -> str:
    if cell.state == "frozen":
        return "frozen"
    words = [rate_text(cell.rate)] if cell.rate is not None else []
    words += [cell.note] if cell.note else []
    return "\n".join(words) or cell.state


def _draw_curve(axes: Any, column: Column, left: float, right: float) -> None:
    points = None if column.curve is None else curve_points(column.curve, column.length)
    axes.axvspan(left, right, facecolor="#f7f7f7", edgecolor="white", linewidth=2)
    if points is None:
        words = "as the module says"
        if column.curve is not None:
            words = f"{column.curve.warmup:,} steps of warm-up, {column.curve.schedule}"
        axes.text((left + right) / 2, 0.5, words, ha="center", va="center", size="small")
        return
    gap = (right - left) / max(1, len(points) - 1)
    places = [left + i * gap for i in range(len(points))]
    axes.plot(places, points, color="#c8502d", linewidth=1.8)


def _draw_steps(axes: Any, columns: list[Column], edges: list[float]) -> None:
    lengths = [column.length for column in columns]
    known = all(length.amount is not None and length.unit == "steps" for length in lengths)
    if not known:
        axes.set_xticks([])
        return
    ends = [0, *accumulate(round(length.amount or 0) for length in lengths)]
    axes.set_xticks(edges, [f"{end:,}" for end in ends])
    axes.set_xlabel("optimizer step")


def _indented(row: str) -> str:
    top, dot, inner = row.partition(".")
    return f"↳ {inner}" if dot else top


def _add_legend(figure: Any, recipe: Recipe) -> None:
    from matplotlib.patches import Patch

    present = {cell.state for column in recipe.columns for cell in column.cells}
    meanings = {
        "trains": "trains, at its peak learning rate",
        "in part": "trains in part",
        "frozen": "frozen",
    }
    patches = [
        Patch(facecolor=_COLORS[state], label=words, hatch="///" if state == "in part" else None)
        for state, words in meanings.items()
        if state in present
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
