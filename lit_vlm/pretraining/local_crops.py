"""Small crops beside an encoder's own size of images."""

from dataclasses import dataclass

from jaxtyping import Shaped
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_vlm.data.multi_crop import MultiCrop
from lit_vlm.encoders import VisionEncoder, VisualFeatures
from lit_vlm.encoders.other_size import encode_at_size, takes_size
from lit_vlm.pretraining.patch_mask import patch_embedding


@dataclass(frozen=True)
class LocalCrops:
    """How an encoder sees small crops: at their own size if it can, else enlarged to its own.

    Attributes:
        views: the crops, in whole patches of the encoder.
        own_size: whether it can.
    """

    views: MultiCrop
    own_size: bool

    @classmethod
    def of(cls, views: MultiCrop, encoder: VisionEncoder) -> "LocalCrops":
        """Fit crops to an encoder.

        Raises:
            ValueError: if patches do not tile the small crops.
        """
        embedding = patch_embedding(encoder)
        patch = 1 if embedding is None else int(embedding.stride[0])
        side = views.local_side(encoder.image_size, patch)
        if side % patch:
            raise ValueError(
                f"SelfDistillation: local_size must be a multiple of the encoder's patches of "
                f"{patch} pixels, got {side}. Take {max(side // patch, 1) * patch}."
            )
        own_size = views.num_local == 0 or takes_size(encoder, (side, side))
        if not own_size:
            rank_zero_warn(
                f"SelfDistillation: {type(encoder).__name__}'s network works at one size only, so "
                f"local crops are enlarged to {encoder.image_size[0]} pixels, and each costs as "
                f"much as a global one. Vision transformers of timm take other sizes with "
                f"config: {{dynamic_img_size: true}}."
            )
        return cls(views.with_local_size(side), own_size)

    def encode(self, encoder: VisionEncoder, crops: Shaped[Tensor, "B 3 h w"]) -> VisualFeatures:
        """Return the features of small crops."""
        if self.own_size:
            return encode_at_size(encoder, crops, (crops.shape[-2], crops.shape[-1]))
        return encoder(crops)
