"""What trains in each stage of a run, in a given model."""

from collections.abc import Mapping
from typing import Any

from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_warn

from lit_vlm.freezing import train_only
from lit_vlm.part_names import find_parts, is_within
from lit_vlm.stage_checks import check_named, check_trained, image_size_of, warn_of_shared
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
        self._frozen_before: set[str] = set()
        self._trained: set[str] = set()

    def begin(self, module: LightningModule) -> None:
        """Remember how the model is outside of the stages, before a run."""
        self.applied = None
        self._image_size = image_size_of(module)
        # What an earlier run in stages froze is no choice of the model's own.
        earlier = module.__dict__.setdefault("_trained_in_stages", False)
        fixed = (n for n, p in module.named_parameters() if not p.requires_grad)
        self._frozen_before = set() if earlier else set(fixed)
        module.__dict__["_trained_in_stages"] = True

    def apply(self, module: LightningModule, stage: str) -> None:
        """Freeze and thaw for a stage.

        Raises:
            ValueError: if a name means nothing in the model, nothing trains, or the model cannot
                work at the stage's image size.
        """
        trained, kept = self._names(module, stage)
        train_only(module, trained, kept)
        check_trained(module, stage)
        where = f"StagedFreezing: stages.{stage}.trains"
        by_pattern = {p: find_parts(module, [p], where) for p in self.stages[stage].trains}
        check_named(module, stage, by_pattern, kept)
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
        self._trained = found
        return found

    def warn(self, module: LightningModule) -> None:
        """Warn of weights that a stage trains and that are frozen elsewhere, or were before."""
        for stage in self.stages:
            trained, kept = self._names(module, stage)
            warn_of_shared(module, stage, trained, kept)
            known = sorted(self._frozen_before & self._trained)
            thawed = [n for n in known if is_within(n, trained)]
            if thawed := [n for n in thawed if not is_within(n, kept)]:
                rank_zero_warn(
                    f"StagedFreezing: stage {stage!r} trains {len(thawed)} parameters that the "
                    f"model had frozen, the first of them {thawed[0]}. Name them in keeps_frozen "
                    f"if they must stay as they are."
                )
                self._frozen_before -= set(thawed)

    def _names(self, module: LightningModule, stage: str) -> tuple[list[str], list[str]]:
        plan = self.stages[stage]
        where = f"StagedFreezing: stages.{stage}"
        trained = find_parts(module, plan.trains, f"{where}.trains")
        return trained, find_parts(module, plan.keeps_frozen, f"{where}.keeps_frozen")
