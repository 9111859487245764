"""What trains in each stage of a run, in a given model."""

from collections.abc import Mapping
from typing import Any

from lightning import LightningModule

from lit_vlm.freezing import train_only
from lit_vlm.part_names import find_parts
from lit_vlm.stage_checks import check_trained, image_size_of, warn_of_shared
from lit_vlm.stages import Stage


class StageParts:
    """Let a model train what a stage names, and work at the stage's image size.

    Args:
        stages: the stages by name.

    Attributes:
        applied: the stage that the model is prepared for.
    """

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        self.stages = stages
        self.applied: str | None = None
        self._image_size: int | None = None

    def begin(self, module: LightningModule) -> None:
        """Remember how the model is outside of the stages, before a run."""
        self.applied = None
        self._image_size = image_size_of(module)

    def apply(self, module: LightningModule, stage: str) -> None:
        """Freeze and thaw for a stage.

        Raises:
            ValueError: if a name means nothing in the model, nothing trains, or the model cannot
                work at the stage's image size.
        """
        train_only(module, *self._names(module, stage))
        check_trained(module, stage)
        self.resize(module, stage)
        self.applied = stage

    def resize(self, module: Any, stage: str) -> None:
        """Let the model work at a stage's image size."""
        size = self.stages[stage].image_size or self._image_size
        if size is not None and size != image_size_of(module):
            module.set_image_size(size)

    def trained_by_any(self, module: LightningModule) -> set[str]:
        """Return the parameters that train in some stage; the model is left at the last stage."""
        found: set[str] = set()
        for stage in self.stages:
            self.apply(module, stage)
            found |= {name for name, weight in module.named_parameters() if weight.requires_grad}
        return found

    def warn_of_shared(self, module: LightningModule) -> None:
        """Warn of weights that a stage trains in one module and freezes in another."""
        for stage in self.stages:
            warn_of_shared(module, stage, *self._names(module, stage))

    def _names(self, module: LightningModule, stage: str) -> tuple[list[str], list[str]]:
        plan = self.stages[stage]
        where = f"StagedFreezing: stages.{stage}"
        trained = find_parts(module, plan.trains, f"{where}.trains")
        return trained, find_parts(module, plan.keeps_frozen, f"{where}.keeps_frozen")
