"""Fusions: several levels of features to one."""

from lit_vlm.fusions.base import Fusion
from lit_vlm.fusions.pick import PickLevel

__all__ = ["Fusion", "PickLevel"]
