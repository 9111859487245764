"""What stands behind a mask, guessed from around it."""

from jaxtyping import Bool, Float
from torch import Tensor


def patch_loss(
    scores: Float[Tensor, "M K"],
    targets: Float[Tensor, "M K"],
    masks: Bool[Tensor, "B N"],
    temperature: int | float,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of a student's masked patches against the teacher's same patches.

    Every masked image counts alike, however many of its patches are masked. The sum over images is
    divided by all of them, as in DINOv2, also those without a mask.

    Args:
        scores: the student's scores of prototypes for the masked patches, in the order of
            ``tokens[masks]``.
        targets: the teacher's distributions for them.
        masks: the patches that the student did not see.
        temperature: of the student's softmax.

    Source:
        iBOT (Zhou et al., 2022), https://arxiv.org/abs/2111.07832.

    Example:
        >>> import torch
        >>> masks = torch.tensor([[True, False], [False, False]])
        >>> scores, targets = torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])
        >>> round(patch_loss(scores, targets, masks, temperature=1).item(), 4)  # ln(2) / 2
        0.3466
    """
    counts = masks.sum(dim=1, keepdim=True)
    weights = (1 / counts.clamp(min=1)).expand_as(masks)[masks]
    log_shares = (scores.float() / temperature).log_softmax(dim=-1)
    each = -(targets * log_shares).sum(dim=-1)
    return (each * weights).sum() / len(masks)
