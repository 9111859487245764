"""Agreement between crops of a picture."""

from jaxtyping import Float
from torch import Tensor


def dino_loss(
    scores: Float[Tensor, "S B K"], targets: Float[Tensor, "G B K"], temperature: int | float
) -> Float[Tensor, ""]:
    """Return the cross-entropy of a student's crops against a teacher's other crops.

    Each global crop of the student is compared with the teacher's other global crops, never with
    itself, and each local crop with all of them; the mean is over pairs and pictures.

    Args:
        scores: the student's scores of prototypes for S crops of each picture, the G global ones
            first, in the teacher's order.
        targets: the teacher's distributions for the global crops.
        temperature: of the student's softmax.

    Raises:
        ValueError: if there is no pair of crops to compare.

    Source:
        DINO (Caron et al., 2021), https://arxiv.org/abs/2104.14294.

    Example:
        >>> import torch
        >>> targets = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
        >>> scores = torch.tensor([[[0.0, 9.0]], [[9.0, 0.0]]])
        >>> round(dino_loss(scores, targets, temperature=1).item(), 4)  # each is the other's
        0.0001
    """
    num_global, num_student = len(targets), len(scores)
    num_pairs = num_global * (num_student - 1)
    if num_pairs < 1:
        raise ValueError(
            f"dino_loss: a picture must have at least two crops, got {num_student}. Ask for two "
            f"global crops, or for local ones."
        )
    # The cross-entropy is linear in the targets: each crop meets the sum of those it has to match.
    together = targets.sum(dim=0, keepdim=True).expand_as(scores).clone()
    together[:num_global] -= targets
    log_shares = (scores.float() / temperature).log_softmax(dim=-1)
    return -(together * log_shares).sum(dim=-1).mean(dim=1).sum() / num_pairs
