"""Mixing the pictures of a batch, and their labels."""

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from timm.data.mixup import Mixup
from torch import Tensor


class Mixing:
    """Blend pictures of a batch two and two (mixup), or put a piece of one into another (CutMix).

    Args:
        mixup: alpha of the beta distribution that the blend is drawn from; 0 for never.
        cutmix: the same for the area of the piece; with both, each batch draws one of them.
        probability: probability that a batch is mixed at all.

    Raises:
        ValueError: if an argument is out of range.

    Attributes:
        chance: the probability, which is 0 if neither is asked for.
    """

    def __init__(self, mixup: int | float, cutmix: int | float, probability: int | float) -> None:
        if min(mixup, cutmix) < 0:
            raise ValueError(
                f"Mixing: mixup and cutmix must not be negative, got {mixup} and {cutmix}."
            )
        if not 0 <= probability <= 1:
            raise ValueError(f"Mixing: mix_probability must be between 0 and 1, got {probability}.")
        self.mixup = mixup
        self.cutmix = cutmix
        self.chance = probability if max(mixup, cutmix) > 0 else 0.0

    def __call__(
        self, images: Shaped[Tensor, "B 3 H W"], labels: Int[Tensor, "B"], num_classes: int
    ) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B K"]]:
        """Return mixed pictures, as floats in [0, 1], and the share of each class in each.

        Raises:
            ValueError: if the batch has an odd number of pictures.
        """
        if len(images) % 2:
            raise ValueError(
                f"Mixing: a batch must hold an even number of pictures, which are mixed two and "
                f"two, got {len(images)}. Choose an even batch_size, and drop_last: true."
            )
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images.clone()
        mix = Mixup(
            mixup_alpha=self.mixup,
            cutmix_alpha=self.cutmix,
            prob=self.chance,
            label_smoothing=0.0,
            num_classes=num_classes,
        )
        # timm draws from NumPy's global state, of which ranks and resumed runs know nothing.
        before = np.random.get_state()
        np.random.seed(int(torch.randint(2**31, (1,))))
        try:
            return mix(pixels, labels)
        finally:
            np.random.set_state(before)
