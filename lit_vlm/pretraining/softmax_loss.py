"""CLIP's loss: each picture must find its text among all, and each text its picture."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from lit_vlm.pretraining.embedding_exchange import gather, gather_ids, rank
from lit_vlm.pretraining.embedding_pairs import check_pairs, full_precision, repeats


def softmax_contrastive_loss(
    image_embeddings: Float[Tensor, "B D"],
    text_embeddings: Float[Tensor, "C D"],
    scale: Float[Tensor, "..."],
    text_ids: Int[Tensor, "_"] | None = None,
) -> Float[Tensor, ""]:
    """Average the cross-entropies of pictures over all texts and of texts over all pictures.

    Pairs compete with those of all processes. Each compares its own pairs with all, so none makes
    more than ``B x N`` similarities, and gradients go back to the processes that the embeddings
    came from. Averaged over the processes, as data parallel training does, the loss and the
    gradients of weights are those of one process with the whole batch.

    Args:
        image_embeddings: one vector of length 1 for each picture; on every process as many.
        text_embeddings: the vectors of the pictures' texts, in the same order.
        scale: one number that multiplies the similarities, the inverse of the temperature. CLIP
            learns its logarithm, from ln(1/0.07) on, and keeps it at most ln(100).
        text_ids: a number for each text. Texts of equal numbers are no wrong answers to each
            other's pictures: those pairs are left out. ``None``: all texts differ.

    Raises:
        ValueError: if images and texts are no pairs, or their number differs between processes.

    Source:
        CLIP (Radford et al., 2021), https://arxiv.org/abs/2103.00020; equal to open_clip's
        ``ClipLoss(local_loss=True, gather_with_grad=True)``. Repeated texts are ours.

    Example:
        >>> embeddings = torch.eye(2)
        >>> softmax_contrastive_loss(embeddings, embeddings, torch.tensor(1.0))
        tensor(0.3133)
    """
    check_pairs("softmax_contrastive_loss", image_embeddings, text_embeddings, text_ids)
    with torch.autocast(image_embeddings.device.type, enabled=False):
        images, texts, scale = full_precision(image_embeddings, text_embeddings, scale)
        # Side by side, to wait for the other processes once.
        all_images, all_texts = gather(torch.cat([images, texts], dim=1)).chunk(2, dim=1)
        first = rank() * len(images)
        answers = torch.arange(first, first + len(images), device=images.device)
        logits = [scale * images @ all_texts.T, scale * texts @ all_images.T]
        if text_ids is not None:
            left_out = repeats(text_ids, gather_ids(text_ids), first)
            logits = [side.masked_fill(left_out, -torch.inf) for side in logits]
        return (cross_entropy(logits[0], answers) + cross_entropy(logits[1], answers)) / 2
