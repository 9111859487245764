"""Views of a picture that differ from epoch to epoch."""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageEnhance
from torch import Tensor

from lit_vlm.configurable import Configurable

_TRIES = 10
"""Times that a crop is drawn before the middle of the picture is taken."""


class Augmentation(Configurable, ABC):
    """Change a training picture at random, to make the encoder indifferent to the change."""

    @abstractmethod
    def view(
        self, picture: Image.Image, size: tuple[int, int], seed: int
    ) -> UInt8[Tensor, "3 H W"]:
        """Return a view of an RGB picture at ``size`` (height, width).

        All that is random comes from ``seed`` alone, so that worker processes, resumed runs and
        any number of ranks see the same views.
        """


class RandomResizedCrop(Augmentation):
    """Cut out a part of random area and shape, mirror it at random, and change its colours.

    Args:
        scale: least and greatest share of the picture's area to cut out.
        ratio: least and greatest width of the part in relation to its height.
        flip: share of the views that are mirrored left to right.
        color_jitter: how far brightness, contrast and saturation may go from 1, each by itself.

    Raises:
        ValueError: if a range is empty or a share is not between 0 and 1.

    Source:
        Inception's crops (Szegedy et al., 2015), https://arxiv.org/abs/1409.4842, drawn as
        torchvision's ``RandomResizedCrop`` draws them.

    Example:
        >>> from PIL import Image
        >>> crop = RandomResizedCrop(scale=(0.5, 1.0))
        >>> crop.view(Image.new("RGB", (40, 30)), size=(8, 8), seed=1).shape
        torch.Size([3, 8, 8])
    """

    def __init__(
        self,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (0.75, 4 / 3),
        flip: int | float = 0.5,
        color_jitter: int | float = 0.0,
    ) -> None:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(
                f"RandomResizedCrop: scale must be two shares of the area, above 0 and at most 1, "
                f"the lesser first, got {scale}."
            )
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(
                f"RandomResizedCrop: ratio must be two positive numbers, the lesser first, got "
                f"{ratio}."
            )
        for name, share in (("flip", flip), ("color_jitter", color_jitter)):
            if not 0 <= share <= 1:
                raise ValueError(f"RandomResizedCrop: {name} must be between 0 and 1, got {share}.")
        self.scale = scale
        self.ratio = ratio
        self.flip = flip
        self.color_jitter = color_jitter

    def view(
        self, picture: Image.Image, size: tuple[int, int], seed: int
    ) -> UInt8[Tensor, "3 H W"]:
        """Return a part of the picture."""
        random = np.random.default_rng(seed)
        box = draw_crop(picture.size, self.scale, self.ratio, random)
        view = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box)
        if random.random() < self.flip:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            if self.color_jitter:
                factor = random.uniform(1 - self.color_jitter, 1 + self.color_jitter)
                view = change(view).enhance(factor)
        return torch.from_numpy(np.array(view)).permute(2, 0, 1).contiguous()


def draw_crop(
    picture_size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    random: np.random.Generator,
) -> tuple[int, int, int, int]:
    """Return left, upper, right and lower edge of a random part of a picture.

    Args:
        picture_size: width and height of the picture.
        scale: least and greatest share of its area.
        ratio: least and greatest width in relation to the height.
        random: what is drawn from.
    """
    width, height = picture_size
    for _ in range(_TRIES):
        area = width * height * random.uniform(*scale)
        shape = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            left = int(random.integers(width - w + 1))
            upper = int(random.integers(height - h + 1))
            return left, upper, left + w, upper + h
    shape = min(max(width / height, ratio[0]), ratio[1])
    w = min(width, max(round(height * shape), 1))
    h = min(height, max(round(width / shape), 1))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def draw_seed(seed: int, epoch: int, index: int) -> int:
    """Return the seed of one picture's randomness in one epoch."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)[0])
