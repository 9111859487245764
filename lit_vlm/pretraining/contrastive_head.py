"""What stands between two towers and a contrastive loss."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

ContrastiveLoss = Literal["softmax", "sigmoid"]
"""CLIP's loss or SigLIP's."""

_HIGHEST = math.log(100)


class ContrastiveHead(nn.Module):
    """Project both towers' vectors to one width; hold the loss's temperature and bias.

    Args:
        image_dim: width of the image tower's vectors.
        text_dim: width of the text tower's.
        embed_dim: width of both after the projections; None for the image tower's own, which then
            has no projection.
        loss: ``softmax`` starts the temperature at 0.07, and keeps the scale, its inverse, from 1
            to 100; ``sigmoid`` starts the scale at 10 and the bias at -10, and bounds neither.

    Raises:
        ValueError: if ``loss`` is another, or ``embed_dim`` is less than 1.

    Example:
        >>> head = ContrastiveHead(image_dim=8, text_dim=6, embed_dim=None, loss="sigmoid")
        >>> head.text(torch.zeros(2, 6)).shape, round(head.scale.item(), 4), head.bias.item()
        (torch.Size([2, 8]), 10.0, -10.0)
    """

    def __init__(
        self, image_dim: int, text_dim: int, embed_dim: int | None, loss: ContrastiveLoss
    ) -> None:
        super().__init__()
        if loss not in ("softmax", "sigmoid"):
            raise ValueError(
                f"ContrastivePretraining: loss must be 'softmax' or 'sigmoid', got {loss!r}."
            )
        if embed_dim is not None and embed_dim < 1:
            raise ValueError(
                f"ContrastivePretraining: embed_dim must be at least 1, got {embed_dim}. Leave it "
                f"out for the image tower's own width, {image_dim}."
            )
        self.embed_dim = embed_dim or image_dim
        self.image = nn.Identity() if embed_dim is None else nn.Linear(image_dim, embed_dim)
        self.text = nn.Linear(text_dim, self.embed_dim)
        # One number in a list: FSDP2 splits no scalars.
        start = math.log(10 if loss == "sigmoid" else 1 / 0.07)
        self.logit_scale = nn.Parameter(torch.tensor([start]))
        self.logit_bias = nn.Parameter(torch.tensor([-10.0])) if loss == "sigmoid" else None

    @property
    def scale(self) -> Float[Tensor, "1"]:
        """What multiplies the similarities."""
        return self.logit_scale.exp()

    @property
    def bias(self) -> Float[Tensor, "1"]:
        """What is added to them; 0 for the softmax loss, which no bias would change."""
        return torch.zeros_like(self.logit_scale) if self.logit_bias is None else self.logit_bias

    def embed_images(self, vectors: Float[Tensor, "B _"]) -> Float[Tensor, "B D"]:
        """Return the pictures' embeddings, of length 1."""
        return normalize(self.image(vectors), dim=-1)

    def embed_texts(self, vectors: Float[Tensor, "C _"]) -> Float[Tensor, "C D"]:
        """Return the texts' embeddings, of length 1."""
        return normalize(self.text(vectors), dim=-1)

    @torch.no_grad()
    def bound(self) -> None:
        """Bring the softmax loss's scale back between 1 and 100; after each optimizer step."""
        if self.logit_bias is None:
            self.logit_scale.clamp_(0, _HIGHEST)
