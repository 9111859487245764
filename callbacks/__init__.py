"""Callbacks: what trains, what is kept of a run, and what it shows of itself."""

from lit_vlm.callbacks.answer_report import AnswerReport
from lit_vlm.callbacks.best_checkpoint import BestCheckpoint
from lit_vlm.callbacks.checkpoint_selection import CheckpointSelection
from lit_vlm.callbacks.curve_plot import CurvePlot
from lit_vlm.callbacks.feature_evaluation import FeatureEvaluation
from lit_vlm.callbacks.feature_writer import FeatureWriter
from lit_vlm.callbacks.freeze import Freeze
from lit_vlm.callbacks.last_checkpoint import LastCheckpoint
from lit_vlm.callbacks.pretrained_lr import PretrainedLR
from lit_vlm.callbacks.rng_state import RNGState
from lit_vlm.callbacks.staged_freezing import StagedFreezing
from lit_vlm.callbacks.trainable_report import TrainableReport
from lit_vlm.part_rates import PartLR
from lit_vlm.stages import Stage

__all__ = [
    "AnswerReport",
    "BestCheckpoint",
    "CheckpointSelection",
    "CurvePlot",
    "FeatureEvaluation",
    "FeatureWriter",
    "Freeze",
    "LastCheckpoint",
    "PartLR",
    "PretrainedLR",
    "RNGState",
    "Stage",
    "StagedFreezing",
    "TrainableReport",
]

if __name__ != "lit_vlm.callbacks":
    raise ImportError("import lit_vlm.callbacks, not callbacks: one package, one name")
