"""``lit-vlm plan``: what a config asks of a cluster, printed before any download."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lit_vlm.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from lit_vlm.plan import Plan

_USAGE = """usage: lit-vlm plan --config FILE [--config FILE ...] [--KEY VALUE ...]
                    [--devices N] [--output plan.json]

Print the parts of a model, what trains in each stage, its visual tokens, and the memory that each
process needs for weights, gradients and optimizer under DDP, FSDP2 and ZeRO 1 to 3. The model is
built without memory; no weights, no tokenizer and no data are read, and nothing is downloaded. A
part with pretrained weights must say their sizes (config), or be in a local folder. Configs and
options are those of lit-vlm fit.

  --devices N       processes, on a node (default: the config's; where it leaves them to the
                    machine, 1 on a CPU, else 8)
  --output FILE     all the figures, in bytes and numbers, as JSON
"""
_STRATEGIES = {
    "ddp": "ddp",
    "fsdp2": "fsdp2",
    "deepspeed_stage_1": "ZeRO 1",
    "deepspeed_stage_2": "ZeRO 2",
    "deepspeed_stage_3": "ZeRO 3",
}


def plan(words: list[str]) -> None:
    """Run ``lit-vlm plan``.

    Args:
        words: what follows it on the command line.

    Raises:
        ConfigError: if the command line or a config is wrong, or sizes are not known.
    """
    if not words or "-h" in words or "--help" in words:
        print(_USAGE, end="")
        return
    from rich.console import Console

    from lit_vlm.config_reader import read_fit_config
    from lit_vlm.plan import make_plan

    config = read_fit_config(["--trainer.devices" if w == "--devices" else w for w in words])
    output = config.get("output")
    if output is not None and Path(output).suffix != ".json":
        raise ConfigError(f"--output must end in .json, got {output}.")
    made = make_plan(config)
    console = Console()
    for table in (parts_table(made), stages_table(made), memory_table(made)):
        console.print(table)
    if buffers := sum(part.buffers for part in made.parts):
        console.print(f"Beside the parameters there are {buffers:,} numbers in buffers.")
    for note in made.notes:
        console.print(note, highlight=False)
    if output is not None:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        Path(output).write_text(json.dumps(made.as_dict(), indent=2) + "\n")
        print(f"The figures are in {output}")


def parts_table(plan: "Plan") -> "Table":
    """Return a table of the parts, and of how many parameters of each train in a stage."""
    table = _table(f"{plan.model}: parameters, and those that train")
    table.add_column("part", no_wrap=True)
    table.add_column("class", overflow="fold")
    for column in ("parameters", *(stage.name for stage in plan.stages)):
        table.add_column(column, justify="right", no_wrap=column == "parameters")
    for part in plan.parts:
        trained = (_share(part.trained[stage.name], part.parameters) for stage in plan.stages)
        table.add_row(part.name, part.class_name, f"{part.parameters:,}", *trained)
    table.add_section()
    sums = (_rounded(stage.trained) for stage in plan.stages)
    table.add_row("sum", "", f"{plan.parameters:,}", *sums)
    return table


def _share(trained: int, parameters: int) -> str:
    if trained in (0, parameters):
        return "all" if trained else "-"
    return f"{trained:,}" if trained < 10**8 else _rounded(trained)


def _rounded(count: int) -> str:
    """Return a count that fits a narrow column; the JSON output has all digits."""
    for size, unit in ((10**9, "B"), (10**6, "M")):
        if count >= size:
            return f"{count / size:,.2f} {unit}"
    return f"{count:,}"


def stages_table(plan: "Plan") -> "Table":
    """Return a table of what a picture costs in each stage."""
    table = _table("pictures", "stage")
    for column in ("pixels", "visual tokens", "longest sequence", "pictures in it"):
        table.add_column(column, justify="right")
    for stage in plan.stages:
        side = f"{stage.image_size} x {stage.image_size}" if stage.image_size else "-"
        counts = (stage.visual_tokens, stage.max_length, stage.max_images)
        table.add_row(stage.name, side, *("-" if n is None else f"{n:,}" for n in counts))
    return table


def memory_table(plan: "Plan") -> "Table":
    """Return a table of the memory of a process, by stage and strategy."""
    ranks = "1 process" if plan.ranks == 1 else f"each of {plan.ranks} processes"
    largest = max(memory.total for stage in plan.stages for memory in stage.memory.values())
    unit, size = ("GiB", 2**30) if largest >= 2**30 else ("MiB", 2**20)
    table = _table(f"{unit} of {ranks}, {plan.precision}", "stage", "strategy")
    for column in ("weights", "gradients", "optimizer", "sum"):
        table.add_column(column, justify="right")
    for stage in plan.stages:
        table.add_section()
        for place, (strategy, memory) in enumerate(stage.memory.items()):
            held = (memory.weights, memory.gradients, memory.optimizer, memory.total)
            cells = (f"{number / size:,.2f}" for number in held)
            table.add_row("" if place else stage.name, _STRATEGIES[strategy], *cells)
    return table


def _table(title: str, *columns: str) -> "Table":
    from rich.table import Table

    table = Table(title=title, padding=(0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
