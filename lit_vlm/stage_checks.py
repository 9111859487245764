"""What must hold for a run to be trained in stages."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities import rank_zero_warn

from lit_vlm.deepspeed_engine import uses_deepspeed
from lit_vlm.freezing import trains
from lit_vlm.part_names import is_within
from lit_vlm.stages import Stage


def check_trainer(stages: Mapping[str, Stage], trainer: Trainer, only: str | None = None) -> None:
    """Raise ``ValueError`` if the strategy or another callback stands against stages.

    Args:
        stages: the stages.
        trainer: the trainer.
        only: the one stage that the fit trains; None for all of them.
    """
    strategy = trainer.strategy
    if isinstance(strategy, FSDPStrategy):
        raise ValueError(
            "StagedFreezing: the strategy must let parts of a model train, got FSDP 1, whose flat "
            "parameters train all or none. Use the strategy fsdp2."
        )
    if uses_deepspeed(trainer):
        _check_engine(stages, only)


def check_data(stages: Mapping[str, Stage], trainer: Trainer, module: LightningModule) -> None:
    """Raise ``ValueError`` if the data or the model cannot change as the stages want."""
    data: Any = getattr(trainer, "datamodule", None)
    for name, stage in stages.items():
        if stage.changes_data and not getattr(data, "follows_stages", False):
            raise ValueError(
                f"StagedFreezing: batches can change only with a data module that follows stages, "
                f"such as ConversationDataModule, got {type(data).__name__} for stage {name!r}. "
                f"Leave batch_size, accumulate_grad_batches, data and image_size out."
            )
        limit = trainer.limit_train_batches
        if isinstance(limit, float) and limit != 1:
            raise ValueError(
                f"StagedFreezing: where stages change the batches, limit_train_batches must be a "
                f"whole number, got {limit}."
            )
        if stage.share is not None and trainer.max_steps < 0:
            raise ValueError(
                f"StagedFreezing: where stages change the batches, a share must be one of the "
                f"trainer's max_steps, got none of them for stage {name!r}. Give max_steps, or the "
                f"stage's steps or epochs."
            )
        if stage.image_size is not None and not hasattr(module, "set_image_size"):
            raise ValueError(
                f"StagedFreezing: the images' size can change only for a model that has "
                f"set_image_size, got {type(module).__name__} for stage {name!r}."
            )


def check_schedulers(module: LightningModule, schedulers: Sequence[Any]) -> None:
    """Raise ``ValueError`` if there is a scheduler, which each engine would begin anew."""
    if schedulers:
        raise ValueError(
            f"StagedFreezing: under DeepSpeed the stages must set the learning rates, got a "
            f"{type(schedulers[0]).__name__} of {type(module).__name__}. Leave it out, and give "
            f"the stages a schedule."
        )


def check_trained(module: LightningModule, stage: str) -> None:
    """Raise ``ValueError`` if nothing trains."""
    if not trains(module):
        raise ValueError(
            f"StagedFreezing: something must train in every stage, got no parameter for stage "
            f"{stage!r}. Name modules that have some."
        )


def check_optimizers(module: LightningModule, trainer: Trainer, wanted: set[str]) -> None:
    """Raise ``ValueError`` if a parameter that trains in some stage is in no optimizer."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    held = {id(parameter) for group in groups for parameter in group["params"]}
    missing = [n for n, p in module.named_parameters() if n in wanted and id(p) not in held]
    if missing:
        raise ValueError(
            f"StagedFreezing: the optimizer must hold all that trains in any stage, got none of "
            f"{missing[0]}{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}. Let "
            f"{type(module).__name__}.configure_optimizers give it self.parameters()."
        )


def warn_of_shared(
    module: LightningModule, stage: str, trained: Sequence[str], kept: Sequence[str]
) -> None:
    """Warn of weights that train in one module and are shared with another that does not."""
    trains_as: dict[int, str] = {}
    named = list(module.named_parameters(remove_duplicate=False))
    for name, parameter in named:
        if is_within(name, trained) and not is_within(name, kept):
            trains_as[id(parameter)] = name
    for name, parameter in named:
        if id(parameter) in trains_as and not is_within(name, trained):
            rank_zero_warn(
                f"StagedFreezing: {name} moves in stage {stage!r} although nothing there trains, "
                f"since it is the same tensor as {trains_as[id(parameter)]}. Untie them, or train "
                f"both."
            )


def image_size_of(module: Any) -> int | None:
    """Return the side of the images that a model works at; None if it does not say."""
    return getattr(module, "image_size", None) if hasattr(module, "set_image_size") else None


def _check_engine(stages: Mapping[str, Stage], only: str | None) -> None:
    if only is None and len(stages) > 1:
        raise ValueError(
            f"StagedFreezing: a DeepSpeed engine must train one stage, got {len(stages)}: what "
            f"thaws after the engine is made never trains, without a word. In place of "
            f"trainer.fit(model, data), call lit_vlm.deepspeed_fits.fit_stages(trainer, model, "
            f"data), which makes an engine for each stage, as lit-vlm fit does."
        )
    for name, stage in stages.items():
        if stage.accumulate_grad_batches or stage.keep_optimizer:
            key = "keep_optimizer" if stage.keep_optimizer else "accumulate_grad_batches"
            raise ValueError(
                f"StagedFreezing: under DeepSpeed each stage must begin with a new optimizer and "
                f"accumulate as the trainer does, got {key} for stage {name!r}. Leave it out, or "
                f"use the strategy ddp or fsdp2."
            )
