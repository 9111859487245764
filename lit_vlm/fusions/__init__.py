"""Fusions: several levels of features to one."""

from lit_vlm.fusions.base import Fusion
from lit_vlm.fusions.channel_concat import ChannelConcat
from lit_vlm.fusions.comm import COMMFusion
from lit_vlm.fusions.concat import ConcatLevels
from lit_vlm.fusions.lln_layerscale import LLNLayerscale
from lit_vlm.fusions.mean import MeanLevels
from lit_vlm.fusions.pick import PickLevel
from lit_vlm.fusions.token_concat import TokenConcat
from lit_vlm.fusions.weighted import WeightedLevels

__all__ = [
    "COMMFusion",
    "ChannelConcat",
    "ConcatLevels",
    "Fusion",
    "LLNLayerscale",
    "MeanLevels",
    "PickLevel",
    "TokenConcat",
    "WeightedLevels",
]
