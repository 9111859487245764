"""A file of a test's figures."""

import csv
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path


def write_figures(path: Path, figures: Mapping[str, float]) -> None:
    """Write figures by name to a .csv file, or else JSON; it appears whole or not at all.

    Those that are no finite number are null, or empty.
    """
    values = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            csv.writer(file).writerows([("figure", "value"), *values.items()])
        else:
            json.dump(values, file, indent=2)
            file.write("\n")
    os.replace(part, path)
