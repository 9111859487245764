"""Random changes of a picture's colours."""

import numpy as np
from PIL import Image, ImageEnhance

_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def jitter_colors(
    picture: Image.Image,
    strength: tuple[float, float, float, float],
    random: np.random.Generator,
) -> Image.Image:
    """Change brightness, contrast, saturation and hue of an RGB picture, in random order.

    Args:
        picture: the picture.
        strength: how far the factors of the first three may go from 1, and the hue around its
            circle (0.5 is to the opposite); what is 0 stays as it is.
        random: what is drawn from.

    Source:
        torchvision's ``ColorJitter``.
    """
    for place in random.permutation(4):
        reach = strength[place]
        if not reach:
            continue
        if place == 3:
            picture = shift_hue(picture, random.uniform(-reach, reach))
        else:
            factor = random.uniform(max(0.0, 1 - reach), 1 + reach)
            picture = _ENHANCERS[place](picture).enhance(factor)
    return picture


def shift_hue(picture: Image.Image, turn: float) -> Image.Image:
    """Turn the hue of an RGB picture: 1 is the whole circle.

    Example:
        >>> red = Image.new("RGB", (1, 1), (255, 0, 0))
        >>> shift_hue(red, 0.5).getpixel((0, 0))
        (0, 252, 255)
    """
    hue, saturation, value = picture.convert("HSV").split()
    steps = round(turn * 256) % 256
    turned = hue.point([(step + steps) % 256 for step in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")
