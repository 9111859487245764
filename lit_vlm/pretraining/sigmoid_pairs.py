"""The sigmoid loss of pictures with texts, whose gradient is made along with it, in chunks."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid

from lit_vlm.pretraining.embedding_pairs import repeats

Ids = tuple[Tensor, Tensor]


def sigmoid_pairs(
    images: Float[Tensor, "B D"],
    texts: Float[Tensor, "C D"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    ids: Ids | None,
    are_pairs: bool,
    chunk_size: int | None,
) -> Float[Tensor, ""]:
    """Return the sum of the losses of all pictures with all texts.

    The gradient of a pair's loss depends on that pair alone, so it is taken while the similarity
    is there, and no similarity is kept: only gradients, which are as large as the embeddings.

    Args:
        images: vectors of pictures.
        texts: vectors of texts.
        scale: what multiplies similarities.
        bias: what is added to them.
        ids: numbers of the pictures' texts and of these texts, by which repetitions are left out.
        are_pairs: whether each text is the picture's of the same place; if not, all are wrong.
        chunk_size: pictures at a time.
    """
    rows = chunk_size or len(images)
    loss: Tensor = _SigmoidPairs.apply(
        images, texts, scale, bias, ids, are_pairs, rows, torch.is_grad_enabled()
    )
    return loss


class _SigmoidPairs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        texts: Tensor,
        scale: Tensor,
        bias: Tensor,
        ids: Ids | None,
        are_pairs: bool,
        chunk_size: int,
        with_gradients: bool,
    ) -> Tensor:
        loss, of_bias = torch.zeros_like(bias), torch.zeros_like(bias)
        of_images, of_texts = torch.zeros_like(images), torch.zeros_like(texts)
        for start in range(0, len(images), chunk_size):
            rows, diagonal = slice(start, start + chunk_size), start if are_pairs else None
            ids_here = ids and (ids[0][rows], ids[1])
            margins = _margins(images[rows], texts, scale, bias, ids_here, diagonal)
            loss -= logsigmoid(margins).sum()
            if with_gradients:
                slopes = _slopes(margins, diagonal)
                of_images[rows].addmm_(slopes, texts)
                of_texts.addmm_(slopes.T, images[rows])
                of_bias += slopes.sum()
        of_scale = (of_texts * texts).sum()
        ctx.save_for_backward(of_images.mul_(scale), of_texts.mul_(scale), of_scale, of_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        needed = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        return *(gradient * value if on else None for value, on in needed), None, None, None, None


def _margins(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    bias: Tensor,
    ids: Ids | None,
    diagonal: int | None,
) -> Tensor:
    """Return by how much each logit is on its right side of zero, infinity for what is left out."""
    margins = torch.addmm(-bias, images * -scale, texts.T)
    if diagonal is not None:
        margins.diagonal(diagonal).neg_()
    if ids is not None:
        margins.masked_fill_(repeats(*ids, diagonal), torch.inf)
    return margins


def _slopes(margins: Tensor, diagonal: int | None) -> Tensor:
    """Return the losses' derivatives by the logits, in the place of the margins."""
    slopes = margins.neg_().sigmoid_()
    if diagonal is not None:
        slopes.diagonal(diagonal).neg_()
    return slopes
