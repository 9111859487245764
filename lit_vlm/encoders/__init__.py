"""Vision encoders: RGB images to maps of visual tokens."""

from lit_vlm.encoders.base import VisionEncoder, VisualFeatures
from lit_vlm.encoders.clip import CLIPEncoder
from lit_vlm.encoders.dinov2 import DINOv2Encoder
from lit_vlm.encoders.ensemble import EnsembleEncoder
from lit_vlm.encoders.siglip import SigLIPEncoder
from lit_vlm.encoders.timm_encoder import TimmEncoder

__all__ = [
    "CLIPEncoder",
    "DINOv2Encoder",
    "EnsembleEncoder",
    "SigLIPEncoder",
    "TimmEncoder",
    "VisionEncoder",
    "VisualFeatures",
]
