"""SigLIP's loss: each picture with each text is a yes-or-no question of its own."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lit_vlm.pretraining.embedding_exchange import gather_ids, num_ranks, pass_on, rank
from lit_vlm.pretraining.embedding_pairs import check_pairs, full_precision
from lit_vlm.pretraining.sigmoid_pairs import sigmoid_pairs


def sigmoid_contrastive_loss(
    image_embeddings: Float[Tensor, "B D"],
    text_embeddings: Float[Tensor, "C D"],
    scale: Float[Tensor, "..."],
    bias: Float[Tensor, "..."],
    text_ids: Int[Tensor, "_"] | None = None,
    chunk_size: int | None = None,
) -> Float[Tensor, ""]:
    """Sum, over all texts, the losses of telling whether a text is a picture's; average pictures.

    No pair depends on another, so no process needs all similarities: texts travel round the ring
    of processes, and no similarity is kept for the backward pass. Similarities of 32,768 pairs on
    8 processes are a matrix of 64 MiB on each, or 16 MiB at ``chunk_size=1024``, and not of 4 GiB.
    Averaged over the processes, as data parallel training does, the loss and the gradients of
    weights are those of one process with the whole batch.

    Args:
        image_embeddings: one vector of length 1 for each picture; on every process as many.
        text_embeddings: the vectors of the pictures' texts, in the same order.
        scale: one number that multiplies the similarities. SigLIP learns its logarithm, from
            ln(10) on.
        bias: one number that is added to them, learned from -10 on: nearly all pairs are wrong.
        text_ids: a number for each text. Texts of equal numbers are no wrong answers to each
            other's pictures: those pairs are left out. ``None``: all texts differ.
        chunk_size: pictures to be compared with the texts of a process at a time; ``None``: all.

    Raises:
        ValueError: if images and texts are no pairs, their number differs between processes, or
            ``chunk_size`` is less than 1.

    Source:
        SigLIP (Zhai et al., 2023), https://arxiv.org/abs/2303.15343; equal to open_clip's
        ``SigLipLoss``. Repeated texts and chunks are ours.

    Example:
        >>> embeddings = torch.eye(2)
        >>> sigmoid_contrastive_loss(embeddings, embeddings, torch.tensor(1.0), torch.tensor(0.0))
        tensor(1.0064)
    """
    check_pairs("sigmoid_contrastive_loss", image_embeddings, text_embeddings, text_ids)
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(
            f"sigmoid_contrastive_loss: chunk_size must be at least 1, got {chunk_size}. Give a "
            f"number of pictures, or null for all at once."
        )
    with torch.autocast(image_embeddings.device.type, enabled=False):
        images, texts, scale = full_precision(image_embeddings, text_embeddings, scale)
        bias = bias.reshape(()).to(scale)
        ids = None if text_ids is None else gather_ids(text_ids).chunk(num_ranks())
        loss = torch.zeros_like(scale)
        for hop in range(num_ranks()):
            texts = pass_on(texts) if hop else texts
            both = None if ids is None else (ids[rank()], ids[rank() - hop])
            loss = loss + sigmoid_pairs(images, texts, scale, bias, both, hop == 0, chunk_size)
        return loss / len(images)
