"""What self-distillation asks of its numbers and of a run."""

from collections.abc import Mapping

import torch
from lightning import LightningModule
from torch import nn

from lit_vlm.deepspeed_engine import uses_zero_3
from lit_vlm.encoders import VisionEncoder
from lit_vlm.encoders.pooling import vector_dim


def check_numbers(
    positive: Mapping[str, int | float],
    not_negative: Mapping[str, int | float],
    shares: Mapping[str, tuple[int | float, ...]],
) -> None:
    """Raise ``ValueError`` for an argument out of range.

    Args:
        positive: arguments by name that must be above 0.
        not_negative: those that may be 0.
        shares: those of one number or more, each between 0 and 1, in rising order.
    """
    for name, value in positive.items():
        if value <= 0:
            raise ValueError(f"SelfDistillation: {name} must be positive, got {value}.")
    for name, value in not_negative.items():
        if value < 0:
            raise ValueError(f"SelfDistillation: {name} must not be negative, got {value}.")
    for name, values in shares.items():
        if not 0 <= values[0] <= values[-1] <= 1:
            what = " and ".join(map(str, values))
            raise ValueError(
                f"SelfDistillation: {name} must be between 0 and 1, the lesser first, got {what}."
            )


def check_shared_head(encoder: VisionEncoder) -> None:
    """Raise ``ValueError`` if an encoder's patches and its vectors of pictures differ in width."""
    width, patch_width = vector_dim(encoder), encoder.dims[-1]
    if width != patch_width:
        raise ValueError(
            f"SelfDistillation: patches must be as wide as pictures' vectors for a shared head, "
            f"got {patch_width} and {width}. Set shared_head: false."
        )


def check_run(module: LightningModule, teacher: nn.Module) -> None:
    """Raise ``ValueError`` if a run keeps weights in a form in which no teacher can follow."""
    coarse = {p.dtype for p in teacher.parameters()} & {torch.bfloat16, torch.float16}
    if coarse:
        raise ValueError(
            f"SelfDistillation: weights must be in float32, got {coarse.pop()}, in which the small "
            f"steps of a teacher are rounded away. Use --trainer.precision bf16-mixed."
        )
    if uses_zero_3(module.trainer):
        raise ValueError(
            "SelfDistillation: every process must have the whole weights, of which the teacher is "
            "an average, got deepspeed_stage_3. Use the strategy ddp."
        )
