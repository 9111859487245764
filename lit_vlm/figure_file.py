"""A file of a test's figures."""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path

from lit_vlm.whole_file import whole_file


def write_figures(path: Path, figures: Mapping[str, float]) -> None:
    """Write figures by name to a .csv file, or else JSON; it appears whole or not at all.

    Those that are no finite number are null, or empty.
    """
    values = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    with whole_file(path) as file:
        if path.suffix == ".csv":
            csv.writer(file).writerows([("figure", "value"), *values.items()])
        else:
            json.dump(values, file, indent=2)
            file.write("\n")
