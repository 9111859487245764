"""What must hold before an encoder's features can be evaluated."""

from collections.abc import Sequence

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lit_vlm.deepspeed_engine import uses_zero_3
from lit_vlm.sharding import is_sharded


def check_numbers(knn: Sequence[int], probe_steps: int, every_n_validations: int) -> None:
    """Refuse arguments of ``FeatureEvaluation`` that are out of range."""
    if knn and min(knn) < 1:
        raise ValueError(
            f"FeatureEvaluation: knn must be numbers of neighbours, from 1 on, got {list(knn)}."
        )
    if probe_steps < 1 or every_n_validations < 0:
        raise ValueError(
            f"FeatureEvaluation: probe_steps must be at least 1 and every_n_validations at least "
            f"0, got {probe_steps} and {every_n_validations}."
        )


def check_strategy(trainer: Trainer, module: LightningModule) -> None:
    """Refuse a strategy that splits the encoder's weights."""
    if is_sharded(module) or uses_zero_3(trainer):
        raise ValueError(
            "FeatureEvaluation: the strategy must leave the encoder whole, got one that splits it "
            "between processes. Use --trainer.strategy ddp, or test a checkpoint of the run."
        )


def check_pictures(known: int | None, wanted: int) -> None:
    """Refuse to evaluate without pictures.

    Args:
        known: number of those to learn from; None if nothing learns.
        wanted: number of those to classify.
    """
    if known is not None and known < 2:
        raise ValueError(
            f"FeatureEvaluation: there must be at least two training pictures with a class, got "
            f"{known}."
        )
    if not wanted:
        raise ValueError(
            "FeatureEvaluation: there must be a picture with a class to evaluate on, got none."
        )


def possible_neighbours(ks: Sequence[int], known: int) -> list[int]:
    """Return the numbers of neighbours that there are; warn of the others."""
    left_out = [k for k in ks if k > known]
    if left_out:
        rank_zero_warn(
            f"FeatureEvaluation: knn {left_out} are left out: there are only {known} training "
            f"pictures with a class."
        )
    return [k for k in ks if k <= known]
