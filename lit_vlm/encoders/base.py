"""The contract of vision encoders."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import interpolate

from lit_vlm.freezing import trains
from lit_vlm.part import Part


class VisualFeatures(NamedTuple):  # not a dataclass, in which ZeRO 3 would find no tensors
    """What an encoder sees in a batch of images.

    Attributes:
        levels: one map (B, N, D) per layer asked for, in that order; prefix tokens (CLS,
            registers) are stripped; patches are row-major.
        grid: rows and columns of the map; N is their product.
        pooled: one vector per image (B, D), or None where the encoder has none.
    """

    levels: tuple[Float[Tensor, "B N _"], ...]
    grid: tuple[int, int]
    pooled: Float[Tensor, "B _"] | None = None


class VisionEncoder(Part, ABC):
    """Turn RGB images into maps of visual tokens.

    An encoder owns its pixels: it takes RGB as the data module cropped it and resizes and
    normalises by itself, on its device. Layers count as in Hugging Face: 0 is the embeddings, k
    the output of block k, -1 the last block and -2 the one before.

    Args:
        image_size: height and width that the encoder works at, in pixels.
        mean: mean of each channel, for pixels in [0, 1].
        std: standard deviation of each channel.

    Attributes:
        dims: width of each level of its features, in order.
        grid: rows and columns of the maps.
    """

    dims: tuple[int, ...]
    grid: tuple[int, int]
    mean: Tensor
    std: Tensor

    def __init__(
        self, image_size: tuple[int, int], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.image_size = image_size
        # On the CPU even in a model on the meta device, whose pictures are then filled as its own.
        for name, value in (("mean", mean), ("std", std)):
            tensor = torch.tensor(value, dtype=torch.float32, device="cpu").reshape(3, 1, 1)
            self.register_buffer(name, tensor)

    @property
    def num_tokens(self) -> int:
        """Number N of visual tokens per image."""
        return self.grid[0] * self.grid[1]

    @property
    def dims_by_encoder(self) -> tuple[tuple[int, ...], ...]:
        """Widths of the levels of each encoder, in order; of this one alone, unless it is several.

        Fusions are made with them.
        """
        return (self.dims,)

    @property
    def level_names(self) -> tuple[str, ...]:
        """What each level is called in a file of features, e.g. ``layer_23``."""
        return tuple(f"level_{place}" for place in range(len(self.dims)))

    @property
    def fill(self) -> tuple[int, int, int]:
        """The mean colour, in 0 to 255: what pads a picture, and what a blank one shows."""
        red, green, blue = (self.mean.flatten().float() * 255).round().int().tolist()
        return red, green, blue

    def set_image_size(self, side: int) -> None:
        """Work at another size of square images, with the same weights.

        Raises:
            ValueError: if this kind of encoder cannot.
        """
        raise ValueError(
            f"{type(self).__name__}: the size of the images must stay {self.image_size[0]}, got "
            f"{side}. CLIPEncoder, SigLIPEncoder and DINOv2Encoder resample their positions."
        )

    def rebuild_without_weights(self, **sizes: Any) -> dict[str, Any]:
        """Return the constructor call of an encoder that has ``pretrained``, naming its sizes.

        Args:
            sizes: arguments that say what the pretrained weights implied.
        """
        record = super().rebuild_config()
        mean, std = self.mean.flatten().tolist(), self.std.flatten().tolist()
        own = {"pretrained": None, "image_size": self.image_size[0], "mean": mean, "std": std}
        record["init_args"].update(own, **sizes)
        return record

    @abstractmethod
    def encode(self, pixels: Float[Tensor, "B 3 H W"]) -> VisualFeatures:
        """Encode pixels that are already resized and normalised."""

    def preprocess(
        self, images: Shaped[Tensor, "B 3 _ _"], size: tuple[int, int] | None = None
    ) -> Float[Tensor, "B 3 H W"]:
        """Resize (antialiased bicubic) and normalise uint8 images, or floats in [0, 1].

        Args:
            images: the images, of any size.
            size: height and width wanted; None for the encoder's own.
        """
        size = size or self.image_size
        dtype = torch.promote_types(self.mean.dtype, torch.float32)
        pixels = images.to(dtype) if images.is_floating_point() else images.to(dtype) / 255
        if tuple(pixels.shape[-2:]) != tuple(size):
            resized = interpolate(pixels, size, mode="bicubic", antialias=True)
            pixels = resized.clamp(0, 1)
        mean, std = self.mean.to(pixels.device), self.std.to(pixels.device)
        # As precise as the weights: DeepSpeed's engine leaves the statistics in 32 bits.
        return ((pixels - mean) / std).to(next(self.parameters(), mean).dtype)

    def predict_step(self, batch: Any, batch_idx: int) -> VisualFeatures:
        """Return the features of a batch of images, which may be none."""
        if len(batch.images):
            return self(batch.images)
        # Networks need not be able to run on no image.
        blank = self(batch.images.new_zeros(1, 3, *self.image_size))
        pooled = None if blank.pooled is None else blank.pooled[:0]
        return VisualFeatures(tuple(level[:0] for level in blank.levels), blank.grid, pooled)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Do nothing: an encoder alone is tested by the callback ``FeatureEvaluation``."""

    def forward(self, images: Shaped[Tensor, "B 3 _ _"]) -> VisualFeatures:
        """Encode RGB images, uint8 or float in [0, 1], of any size.

        No graph is kept when nothing in the encoder trains.
        """
        needs_graph = torch.is_grad_enabled() and (images.requires_grad or trains(self))
        with torch.set_grad_enabled(needs_graph):
            return self.encode(self.preprocess(images))
