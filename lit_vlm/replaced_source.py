"""What a data module's config says of sources by name when another takes their place."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn


def drop_metrics_of_replaced(data: dict[str, Any], stage: str) -> None:
    """Drop the metrics of sources that only one stage names, for a source without a name.

    They would be refused, as metrics of sources that there are not.

    Args:
        data: a data module's class and arguments, which are changed.
        stage: whose sources are replaced: ``train``, ``val``, ``test`` or ``predict``.
    """
    given = data.get("init_args", {})
    metrics = given.get("metrics")
    if not isinstance(metrics, Mapping) or "class_path" in metrics:
        return
    others = [given.get(name) for name in ("train", "val", "test") if name != stage]
    left = {name for named in others if isinstance(named, Mapping) for name in named}
    dropped = [name for name in metrics if name and name not in left]
    if dropped:
        given["metrics"] = {name: metrics[name] for name in metrics if name not in dropped} or None
        rank_zero_warn(
            f"metrics: those of {', '.join(dropped)} are left out, since --data takes the place "
            f"of these sources. Choose others with --data.metrics."
        )
