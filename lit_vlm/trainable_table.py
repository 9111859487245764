"""A table of what trains in a model, and how."""

from collections.abc import Callable, Iterable
from typing import Any

from rich.table import Table
from torch import nn

from lit_vlm.part_tensors import modules_by_part, parameters_by_part

Group = dict[str, Any]


def trainable_table(title: str, rows: Iterable[tuple[str, ...]]) -> Table:
    """Return the rows as a table to print."""
    table = Table(title=title, padding=(0, 0))
    for column in ("part", "class"):
        table.add_column(column, overflow="fold")
    for column in ("parameters", "trainable", "dtype", "lr", "decay"):
        table.add_column(column, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def trainable_rows(
    model: nn.Module, groups: list[Group], peak: Callable[[Group], float]
) -> list[tuple[str, ...]]:
    """Return a row of texts per part: name, class, parameters, trainable, dtype, rate, decay.

    Args:
        model: any model.
        groups: the optimizers' groups of parameters.
        peak: returns the learning rate that a group will reach.
    """
    modules = modules_by_part(model)
    rows = []
    for part, own in parameters_by_part(model).items():
        parameters = list(own.values())
        # Beside the parts there are children that do not train, and parameters of the model's own.
        kind = type(modules.get(part, getattr(model, part, None))).__name__
        rows.append((part, kind, *_cells(parameters, groups, peak)))
    return rows


def _cells(
    parameters: list[nn.Parameter], groups: list[Group], peak: Callable[[Group], float]
) -> tuple[str, ...]:
    trained = [p for p in parameters if p.requires_grad]
    ids = {id(p) for p in trained}
    mine = [group for group in groups if any(id(p) in ids for p in group["params"])]
    return (
        f"{sum(map(_size, parameters)):,}",
        f"{sum(map(_size, trained)):,}",
        _listed(str(p.dtype).removeprefix("torch.") for p in parameters),
        _range(peak(group) for group in mine),
        _listed(f"{group.get('weight_decay', 0):g}" for group in mine),
    )


def _size(parameter: Any) -> int:
    return getattr(parameter, "ds_numel", None) or parameter.numel()  # ZeRO-3 leaves none here


def _range(rates: Iterable[float]) -> str:
    texts = list(dict.fromkeys(f"{rate:.3g}" for rate in sorted(rates)))
    return f"{texts[0]} … {texts[-1]}" if len(texts) > 1 else "".join(texts) or "-"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values)) or "-"
