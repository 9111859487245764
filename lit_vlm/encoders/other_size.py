"""Pictures at another size than an encoder's own."""

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from lit_vlm.encoders.base import VisionEncoder, VisualFeatures
from lit_vlm.freezing import evaluating


def encode_at_size(
    encoder: VisionEncoder, images: Shaped[Tensor, "B 3 _ _"], size: tuple[int, int]
) -> VisualFeatures:
    """Encode RGB images at a size that is not the encoder's own.

    The encoder stays as it is, so a backward pass may come at any time.

    Args:
        encoder: an encoder that ``takes_size``.
        images: uint8, or float in [0, 1].
        size: height and width, in pixels.
    """
    return encoder.encode(encoder.preprocess(images, size))


@torch.no_grad()
def takes_size(encoder: VisionEncoder, size: tuple[int, int]) -> bool:
    """Whether an encoder can work at a size: only a pass can tell.

    Convolutional networks can, and transformers whose positions are resampled: ``CLIPEncoder``,
    ``SigLIPEncoder`` and ``DINOv2Encoder`` but for ``port: timm``; of timm's those made with
    ``config: {dynamic_img_size: true}``.

    Args:
        encoder: the encoder, which stays as it is.
        size: height and width, in pixels.

    Example:
        >>> from lit_vlm.encoders import TimmEncoder
        >>> takes_size(TimmEncoder("test_resnet", layers=[2], image_size=64), (32, 32))
        True
    """
    blank: Any = torch.zeros(1, 3, *size, device=encoder.device)
    with evaluating(encoder):
        try:
            encode_at_size(encoder, blank, size)
        except (AssertionError, RuntimeError, TypeError, ValueError):
            return False
    return True
