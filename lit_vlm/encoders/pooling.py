"""One vector per picture, from any encoder."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lit_vlm.encoders.base import VisionEncoder, VisualFeatures
from lit_vlm.freezing import evaluating


def image_vector(features: VisualFeatures) -> Float[Tensor, "B D"]:
    """Return what the encoder pools, or else the mean of the patches of its last level."""
    return features.levels[-1].mean(dim=1) if features.pooled is None else features.pooled


@torch.no_grad()
def vector_dim(encoder: VisionEncoder) -> int:
    """Return the width of ``image_vector``, which only a pass can tell.

    Example:
        >>> from lit_vlm.encoders import TimmEncoder
        >>> vector_dim(TimmEncoder("test_resnet", layers=[2], image_size=64))
        48
    """
    device = next(encoder.parameters()).device  # in a model on the meta device, the means are not
    blank: Any = torch.zeros(1, 3, *encoder.image_size, device=device)
    with evaluating(encoder):
        return image_vector(encoder(blank)).shape[-1]
