"""Classification by the labels of the nearest neighbours."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from lit_vlm.metrics.finite import check_finite, finite_rows

_CELLS = 1 << 24  # similarities held at once: 64 MB


def nearest_neighbours(
    bank: Float[Tensor, "N D"],
    bank_labels: Int[Tensor, "N"],
    queries: Float[Tensor, "Q D"],
    ks: Sequence[int],
    temperature: int | float | None = 0.07,
) -> Int[Tensor, "K Q"]:
    """Return the label that each query's k nearest vectors vote for, for several k at once.

    Nearness is the cosine. It takes no training, so it shows what features are worth as they are;
    a linear probe also finds what is there in a few of their directions only. Of equal votes, the
    lowest label wins. A query with nan or infinity has no neighbours, and gets the label -1.

    Args:
        bank: vectors whose labels are known.
        bank_labels: their labels, from 0.
        queries: vectors to classify.
        ks: how many neighbours vote.
        temperature: a neighbour's vote counts exp(cosine / temperature); None for one each.

    Raises:
        ValueError: if a k is not between 1 and the number of vectors in the bank, or the
            temperature is not positive, or a vector of the bank holds nan or infinity.

    Source:
        DINO (Caron et al., 2021), https://arxiv.org/abs/2104.14294, ``eval_knn.py``.

    Example:
        >>> bank = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.9, 1.0]])
        >>> labels, query = torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.1]])
        >>> nearest_neighbours(bank, labels, query, [1, 3]).tolist()
        [[0], [0]]
        >>> nearest_neighbours(bank, labels, query, [1, 3], temperature=None).tolist()
        [[0], [1]]
    """
    if temperature is not None and temperature <= 0:
        raise ValueError(
            f"nearest_neighbours: temperature must be positive, or None, got {temperature}."
        )
    if not ks or not 1 <= min(ks) <= max(ks) <= len(bank):
        raise ValueError(
            f"nearest_neighbours: ks must lie between 1 and the number of vectors with labels, "
            f"{len(bank)}, got {list(ks)}. Ask for fewer neighbours."
        )
    check_finite(bank, "nearest_neighbours")
    bank = normalize(bank.float(), dim=1)
    rows = max(1, _CELLS // len(bank))
    found = [
        _votes(queries[start : start + rows], bank, bank_labels, ks, temperature)
        for start in range(0, len(queries), rows)
    ]
    return torch.cat(found, dim=1) if found else bank_labels.new_zeros(len(ks), 0)


def _votes(
    queries: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    ks: Sequence[int],
    temperature: int | float | None,
) -> Tensor:
    similarity = normalize(queries.float(), dim=1) @ bank.T
    nearest, place = similarity.topk(max(ks), dim=1)
    # Less one, which changes no vote's share: exp(1 / temperature) may be no finite number.
    weight = (
        torch.ones_like(nearest) if temperature is None else ((nearest - 1) / temperature).exp()
    )
    votes = weight.new_zeros(len(queries), int(bank_labels.max()) + 1)
    label, winners, before = bank_labels[place], {}, 0
    for k in sorted(set(ks)):
        votes.scatter_add_(1, label[:, before:k], weight[:, before:k])
        winners[k], before = votes.argmax(1), k
    # Else nan would vote for nobody, which reads as a vote for the lowest label.
    return torch.stack([winners[k] for k in ks]).masked_fill(~finite_rows(queries), -1)
