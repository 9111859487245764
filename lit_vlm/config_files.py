"""Experiments by name or by path."""

import difflib
from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"


def find_config(name: str) -> str:
    """Return the path of a config file: itself, or that of a shipped experiment.

    Args:
        name: a path, or a shipped experiment's name such as ``quickstart``.

    Raises:
        FileNotFoundError: if there is neither.
    """
    if Path(name).is_file():
        return name
    shipped = CONFIGS / f"{name}.yaml"
    if shipped.is_file():
        return str(shipped)
    known = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    near = difflib.get_close_matches(Path(name).stem, known, n=3)
    hint = f" Did you mean: {', '.join(near)}?" if near else f" Shipped: {', '.join(known)}."
    raise FileNotFoundError(f"--config must be a file or a shipped experiment, got {name!r}.{hint}")
