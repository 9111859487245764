"""Pictures in any mode and size to RGB of one size."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

Resize = Literal["stretch", "crop", "pad"]
_LYING = (5, 6, 7, 8)
"""EXIF orientations whose width is the height of what is stored."""


def read_image(source: str | Path | Image.Image) -> Image.Image:
    """Read a picture as RGB: turned by its EXIF tag, transparency over white, 16 bit scaled to 8.

    Raises:
        ValueError: if the file is missing, or is not a picture that can be read whole.
    """
    if isinstance(source, Image.Image):
        return _as_rgb(source)
    try:
        with Image.open(source) as image:
            image.load()
            return _as_rgb(image)
    except FileNotFoundError as error:
        raise ValueError(f"there is no image {source}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"the image {source} cannot be read: {error}") from error


def picture_size(source: str | Path | Image.Image) -> tuple[int, int]:
    """Return width and height of a picture as ``read_image`` turns it; a file's head is enough.

    Raises:
        ValueError: if the file is missing, or does not begin as a picture.
    """
    if isinstance(source, Image.Image):
        return _turned_size(source)
    try:
        with Image.open(source) as image:
            return _turned_size(image)
    except FileNotFoundError as error:
        raise ValueError(f"there is no image {source}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"the image {source} cannot be read: {error}") from error


def fit_image(
    image: Image.Image,
    size: tuple[int, int],
    resize: Resize,
    fill: tuple[int, int, int],
) -> UInt8[Tensor, "3 H W"]:
    """Bring an RGB picture to ``size`` (height, width) by bicubic resampling.

    Args:
        image: the picture.
        size: height and width, in pixels.
        resize: ``stretch`` ignores the aspect ratio, ``crop`` fills the size and cuts the middle
            out, ``pad`` fits all of the picture in and fills the rest.
        fill: colour of the padding.
    """
    target = (size[1], size[0])
    if image.size != target:
        resample = Image.Resampling.BICUBIC
        if resize == "stretch":
            image = image.resize(target, resample)
        elif resize == "crop":
            image = ImageOps.fit(image, target, resample)
        else:
            image = ImageOps.pad(image, target, resample, color=fill)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _turned_size(image: Image.Image) -> tuple[int, int]:
    lies = image.getexif().get(ExifTags.Base.Orientation, 1) in _LYING
    return (image.height, image.width) if lies else image.size


def _as_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        # Pillow clips these modes to 255; scale the 16 bits down instead.
        values = np.asarray(image, dtype=np.float64)
        has_16_bits = image.mode.startswith("I;16") or values.max(initial=0) > 255
        scaled = (values / 257).round() if has_16_bits else values
        image = Image.fromarray(scaled.clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(canvas, image).convert("RGB")
    return image.convert("RGB")
