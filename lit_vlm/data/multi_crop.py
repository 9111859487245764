"""Several crops of a picture, large and small."""

from collections.abc import Sequence
from copy import copy

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

from lit_vlm.configurable import Configurable
from lit_vlm.data.augmentation import draw_crop
from lit_vlm.data.color_jitter import jitter_colors

_NUM_GLOBAL = 2
_SOLARIZE_ABOVE = 128


class MultiCrop(Configurable):
    """Cut a picture into two large crops and several small ones, each distorted in its own way.

    What the crops share is what a self-distilled encoder learns; colours that matter must not be
    distorted (``jitter: [0, 0, 0, 0]``, ``gray: 0``, ``solarize: 0``). Shares are of crops.

    Args:
        global_scale: least and greatest share of the picture's area in a global crop.
        local_scale: the same for a local crop.
        num_local: number of local crops; 0 for none.
        local_size: side of local crops, in pixels; None for three sevenths of the global ones'
            (96 for 224), in whole patches.
        ratio: least and greatest ratio of width to height that is cut out.
        flip: share that is mirrored.
        jitter: how far brightness, contrast, saturation and hue may go, as in torchvision's
            ``ColorJitter``.
        jitter_share: share whose colours are changed.
        gray: share that loses its colours.
        blur: shares of the first and of the second global crop, and of the local ones, that are
            blurred.
        blur_radius: least and greatest standard deviation of the blur, in pixels.
        solarize: share of the second global crops whose bright colours are inverted.

    Raises:
        ValueError: if an argument is out of range.

    Source:
        DINOv2 (Oquab et al., 2023), https://arxiv.org/abs/2304.07193, as its paper says: in its
        code the shares of blurred crops are the complements of these.

    Example:
        >>> views = MultiCrop(num_local=3, local_size=16)
        >>> global_crops, local_crops = views.crops(Image.new("RGB", (64, 48)), (32, 32), seed=0)
        >>> tuple(global_crops.shape), tuple(local_crops.shape)
        ((2, 3, 32, 32), (3, 3, 16, 16))
    """

    def __init__(
        self,
        global_scale: tuple[float, float] = (0.32, 1.0),
        local_scale: tuple[float, float] = (0.05, 0.32),
        num_local: int = 8,
        local_size: int | None = None,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: int | float = 0.5,
        jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1),
        jitter_share: int | float = 0.8,
        gray: int | float = 0.2,
        blur: tuple[float, float, float] = (1.0, 0.1, 0.5),
        blur_radius: tuple[float, float] = (0.1, 2.0),
        solarize: int | float = 0.2,
    ) -> None:
        _check_ranges({"global_scale": global_scale, "local_scale": local_scale, "ratio": ratio})
        shares = {"flip": flip, "jitter_share": jitter_share, "gray": gray, "solarize": solarize}
        _check_shares({**shares, "blur": max(blur)})
        if num_local < 0 or (local_size is not None and local_size < 1):
            raise ValueError(
                f"MultiCrop: num_local must be at least 0 and local_size positive, got "
                f"{num_local} and {local_size}."
            )
        self.global_scale = global_scale
        self.local_scale = local_scale
        self.num_local = num_local
        self.local_size = local_size
        self.ratio = ratio
        self.flip = flip
        self.jitter = jitter
        self.jitter_share = jitter_share
        self.gray = gray
        self.blur = blur
        self.blur_radius = blur_radius
        self.solarize = solarize

    def local_side(self, size: tuple[int, int], patch: int = 1) -> int:
        """Return the side of local crops beside global ones of a size, a multiple of a patch."""
        if self.local_size is not None:
            return self.local_size
        return max(round(min(size) * 3 / 7 / patch), 1) * patch

    def with_local_size(self, side: int) -> "MultiCrop":
        """Return the same with local crops of a side, in pixels."""
        fitted = copy(self)
        fitted.local_size = side
        return fitted

    def crops(
        self, picture: Image.Image, size: tuple[int, int], seed: int
    ) -> tuple[UInt8[Tensor, "G 3 H W"], UInt8[Tensor, "L 3 h w"]]:
        """Return the global and the local crops of an RGB picture.

        Args:
            picture: the picture.
            size: height and width of global crops.
            seed: what the crops depend on, beside the picture.
        """
        side = self.local_side(size)
        sizes = [size] * _NUM_GLOBAL + [(side, side)] * self.num_local
        made = [
            self._crop(picture, wanted, place, np.random.default_rng([seed, place]))
            for place, wanted in enumerate(sizes)
        ]
        return _stacked(made[:_NUM_GLOBAL], size), _stacked(made[_NUM_GLOBAL:], (side, side))

    def _crop(
        self,
        picture: Image.Image,
        size: tuple[int, int],
        place: int,
        random: np.random.Generator,
    ) -> Image.Image:
        scale = self.global_scale if place < _NUM_GLOBAL else self.local_scale
        box = draw_crop(picture.size, scale, self.ratio, random)
        crop = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box)
        if random.random() < self.flip:
            crop = ImageOps.mirror(crop)
        if random.random() < self.jitter_share:
            crop = jitter_colors(crop, self.jitter, random)
        if random.random() < self.gray:
            crop = crop.convert("L").convert("RGB")
        if random.random() < self.blur[min(place, _NUM_GLOBAL)]:
            crop = crop.filter(ImageFilter.GaussianBlur(random.uniform(*self.blur_radius)))
        if place == 1 and random.random() < self.solarize:
            crop = ImageOps.solarize(crop, _SOLARIZE_ABOVE)
        return crop


def _stacked(crops: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
    if not crops:
        return torch.zeros(0, 3, *size, dtype=torch.uint8)
    pixels = torch.from_numpy(np.stack([np.asarray(crop) for crop in crops]))
    return pixels.permute(0, 3, 1, 2).contiguous()


def _check_ranges(ranges: dict[str, tuple[float, float]]) -> None:
    for name, (low, high) in ranges.items():
        highest = 1 if name != "ratio" else high
        if not 0 < low <= high <= highest:
            raise ValueError(
                f"MultiCrop: {name} must be two positive numbers in order"
                f"{', at most 1' if name != 'ratio' else ''}, got {low} and {high}."
            )


def _check_shares(shares: dict[str, int | float]) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"MultiCrop: {name} must be between 0 and 1, got {share}.")
