"""Precision and number of processes, as far as a config says them."""

from typing import Any

from lightning.fabric.connector import _convert_precision_to_unified_args

from lit_vlm.errors import ConfigError

_ASSUMED = 8  # processes, where the config leaves it to the machine


def planned_precision(trainer: dict[str, Any]) -> str:
    """Return the precision that a config gives the trainer, by Lightning's full name.

    Raises:
        ConfigError: if its memory is not known.
    """
    given = trainer.get("precision")
    precision = str(_convert_precision_to_unified_args(given) or "32-true")
    if precision.startswith("transformer-engine"):
        raise ConfigError(
            f"--trainer.precision must be one of torch's own to be planned, got {precision}. "
            f"Plan bf16-true, whose weights are as large."
        )
    return precision


def planned_ranks(trainer: dict[str, Any]) -> int:
    """Return the number of processes; 8 a node if the config leaves them to the machine.

    Raises:
        ConfigError: if it is none.
    """
    devices, nodes = trainer.get("devices", "auto"), int(trainer.get("num_nodes") or 1)
    if isinstance(devices, str) and "," in devices:
        devices = [place for place in devices.split(",") if place.strip()]
    if isinstance(devices, list | tuple):
        return len(devices) * nodes
    if devices != "auto" and not str(devices).lstrip("-").isdigit():
        raise ConfigError(f"--devices must be a number, got {devices!r}.")
    count = -1 if devices == "auto" else int(devices)
    if count == 0 or count < -1:
        raise ConfigError(f"--devices must be at least 1, got {count}.")
    if count < 0:
        count = 1 if trainer.get("accelerator") == "cpu" else _ASSUMED
    return count * nodes
