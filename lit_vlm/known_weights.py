"""Which parts of a model have weights that were trained before, by how they were made."""

from typing import Any

from lit_vlm.configurable import Configurable


def parts_without_weights(model: Any) -> list[str]:
    """Return the names of a model's parts that were made with random weights.

    Args:
        model: a model with ``parts``; those without parameters count as known.
    """
    return [
        name
        for name, part in model.parts.items()
        if next(part.parameters(), None) is not None and not is_pretrained(part)
    ]


def is_pretrained(part: Any) -> bool:
    """Whether a part, or one inside it, was made with ``pretrained`` weights."""
    return isinstance(part, Configurable) and _names_weights(part.init_config)


def _names_weights(record: Any) -> bool:
    if isinstance(record, dict):
        return record.get("pretrained") is not None or any(map(_names_weights, record.values()))
    return isinstance(record, list) and any(map(_names_weights, record))
