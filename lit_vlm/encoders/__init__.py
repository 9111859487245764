"""Vision encoders: RGB images to maps of visual tokens."""

from lit_vlm.encoders.base import VisionEncoder, VisualFeatures
from lit_vlm.encoders.timm_encoder import TimmEncoder

__all__ = ["TimmEncoder", "VisionEncoder", "VisualFeatures"]
