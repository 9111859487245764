"""What a DeepSpeed engine asks of a model's optimizer and training."""

from collections.abc import Iterable

from lightning import LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy
from torch.optim import Optimizer


def uses_deepspeed(trainer: Trainer) -> bool:
    """Whether a DeepSpeed engine trains the model."""
    return isinstance(trainer.strategy, DeepSpeedStrategy)


def uses_zero_3(trainer: Trainer) -> bool:
    """Whether its engine splits the weights between processes."""
    return isinstance(trainer.strategy, DeepSpeedStrategy) and trainer.strategy.zero_stage_3


def leave_out_frozen(optimizers: Iterable[Optimizer]) -> None:
    """Take what does not train, and groups of which nothing does, out of optimizers.

    ZeRO 1 and 2 fail on such a group (``list index out of range``). Since ZeRO puts parameters of
    its own into the groups, those without a ``name`` get one, to be known by.

    Args:
        optimizers: optimizers that no engine has yet.
    """
    for optimizer in optimizers:
        for place, group in enumerate(optimizer.param_groups):
            group["params"] = [weight for weight in group["params"] if weight.requires_grad]
            group.setdefault("name", f"group_{place}")
        optimizer.param_groups[:] = [g for g in optimizer.param_groups if g["params"]]


def check_accumulation(module: LightningModule, trainer: Trainer) -> None:
    """Raise ``ValueError`` if an engine would sum the gradients of several batches.

    It keeps them where the module cannot weigh them by the tokens of all the batches.
    """
    if uses_deepspeed(trainer) and trainer.accumulate_grad_batches > 1:
        raise ValueError(
            f"{type(module).__name__}: under DeepSpeed accumulate_grad_batches must be 1, since "
            f"the engine would weigh batches alike, not tokens, got "
            f"{trainer.accumulate_grad_batches}. Use larger batches, or the strategy ddp or fsdp2."
        )
