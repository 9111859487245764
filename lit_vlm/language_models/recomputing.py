"""Gradient checkpointing of transformers' models, frozen ones too."""

from functools import partial
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from lit_vlm.freezing import evaluating, trains


def recompute_blocks(model: Any) -> None:
    """Recompute a model's blocks in the backward pass, to save memory."""
    # transformers 5 renamed it on the way; the old name warns where there is the new one.
    new = getattr(model, "activation_checkpointing_enable", None)
    enable = new or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    for block in _blocks(model):
        checkpoint = block._gradient_checkpointing_func
        block._gradient_checkpointing_func = partial(_recompute, block, checkpoint)


def recompute_frozen_blocks(model: nn.Module) -> None:
    """Let blocks recompute that do not train; transformers does so in training mode only."""
    for block in _blocks(model):
        if not trains(block):
            block.training = True


def _recompute(block: nn.Module, checkpoint: Any, run: Any, *args: Any) -> Any:
    # A frozen block is in training mode only to get here; some drop out by their own mode.
    def run_in_evaluation(*args: Any) -> Any:
        with evaluating(block):
            return run(*args)

    return checkpoint(run if trains(block) else run_in_evaluation, *args)


def _blocks(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
