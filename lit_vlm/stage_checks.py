"""What must hold for a run to be trained in stages."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import Optimizer

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
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks):
        raise ValueError(
            "StagedFreezing: the stages must say how batches are accumulated, got a "
            "GradientAccumulationScheduler too. Give stages accumulate_grad_batches."
        )
    by_steps = all(stage.epochs is None and stage.share is None for stage in stages.values())
    if not trainer.lightning_module.automatic_optimization and not by_steps:
        raise ValueError(
            f"StagedFreezing: with manual optimization a stage's length must be steps, got epochs "
            f"or a share for {type(trainer.lightning_module).__name__}. Each optimizer's step "
            f"counts as one."
        )


def check_data(stages: Mapping[str, Stage], trainer: Trainer, module: LightningModule) -> None:
    """Raise ``ValueError`` if the data or the model cannot change as the stages want."""
    data: Any = getattr(trainer, "datamodule", None)
    for name, stage in stages.items():
        if stage.changes_data and not getattr(data, "follows_stages", False):
            raise ValueError(
                f"StagedFreezing: batches can change only with a data module that follows stages, "
                f"such as ConversationDataModule, got {type(data).__name__} for stage {name!r}. "
                f"Leave out what it says of batches, data, images and prompts."
            )
        limit = trainer.limit_train_batches
        if isinstance(limit, float) and limit != 1:
            raise ValueError(
                f"StagedFreezing: where stages change the batches, limit_train_batches must be a "
                f"whole number, got {limit}."
            )
        every = trainer.val_check_interval
        if isinstance(every, int) and trainer.check_val_every_n_epoch is not None:
            raise ValueError(
                f"StagedFreezing: where stages change the batches, passes differ in length, so "
                f"val_check_interval must be a share of one, got {every}. Give a share, such as "
                f"0.5, or check_val_every_n_epoch: null, which counts batches over passes."
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


def group_sizes(states: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return the numbers of parameters in the groups of optimizers' states."""
    return [[len(group["params"]) for group in state["param_groups"]] for state in states]


def check_groups(optimizers: Sequence[Optimizer], saved: list[list[int]]) -> None:
    """Raise ``ValueError`` if a checkpoint's optimizers have other groups of parameters.

    Args:
        optimizers: those of this run.
        saved: sizes of the checkpoint's groups; nothing is checked without any.
    """
    now = [[len(group["params"]) for group in made.param_groups] for made in optimizers]
    if saved and now != saved:
        raise ValueError(
            f"StagedFreezing: a run must be resumed with the parameter groups that it was saved "
            f"with, got groups of {now} parameters for {saved}. The rates in learning_rates may "
            f"change, but not which parts they tell apart; nor may the layers of pretrained_lr."
        )


def check_named(
    module: LightningModule, stage: str, trained: Mapping[str, Sequence[str]], kept: Sequence[str]
) -> None:
    """Raise ``ValueError`` if a name in ``trains`` has parameters, of which none trains.

    Args:
        module: the model, prepared for the stage.
        stage: the stage's name.
        trained: what each pattern means.
        kept: names that the stage keeps frozen.
    """
    for pattern, names in trained.items():
        inside = [(n, p) for n, p in module.named_parameters() if is_within(n, names)]
        meant = [p for n, p in inside if not is_within(n, kept)]
        if meant and not any(p.requires_grad for p in meant):
            raise ValueError(
                f"StagedFreezing: what stage {stage!r} names must train, got {pattern!r}, whose "
                f"parameters adapters (LoRA) keep frozen. Name the adapters, or leave it out."
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
