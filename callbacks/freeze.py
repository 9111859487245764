"""Parts that do not train."""

from collections.abc import Sequence

from lightning import Callback, LightningModule, Trainer

from lit_vlm.freezing import freeze


class Freeze(Callback):
    """Freeze parts of any LightningModule for the whole of a run.

    Frozen means no gradient, no optimizer state, and evaluation mode throughout, so that
    BatchNorm, dropout and drop-path stand still too.

    Args:
        parts: dotted names of modules, e.g. ``encoder`` or ``language_model.model.lm_head``.

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
        for name in self.parts:
            if name not in modules or not name:
                known = ", ".join(child for child, _ in pl_module.named_children())
                raise ValueError(
                    f"Freeze: parts must name modules of {type(pl_module).__name__} ({known} and "
                    f"what is inside them), got {name!r}."
                )
            freeze(modules[name])
