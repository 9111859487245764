"""Parts that do not train."""

from collections.abc import Sequence

from lightning import Callback, LightningModule, Trainer

from lit_vlm.freezing import freeze
from lit_vlm.part_names import find_parts


class Freeze(Callback):
    """Freeze parts of any LightningModule for the whole of a run.

    Frozen means no gradient, no optimizer state, and evaluation mode throughout, so that
    BatchNorm, dropout and drop-path stand still too.

    Args:
        parts: modules or parameters, by dotted names or patterns: ``encoder``,
            ``encoder.blocks.0-10``, ``language_model.lm_head``; see ``find_parts``.

    Raises:
        ValueError: at the start of ``fit``, if the model has no part of that name.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self.parts = list(parts)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Freeze before the strategy wraps the model."""
        if stage != "fit":
            return
        modules = dict(pl_module.named_modules())
        for name in find_parts(pl_module, self.parts, "Freeze: parts"):
            if name in modules:
                freeze(modules[name])
            else:
                pl_module.get_parameter(name).requires_grad_(False)
