"""Items of a data set, put together from ranks that hold different numbers of them."""

from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.nn.functional import pad
from torchmetrics.utilities.distributed import gather_all_tensors

NOBODY = -1
"""The place of no item, which fills up what ranks gather."""


def gather_padded(values: Tensor, group: Any = None) -> list[Tensor]:
    """Return each rank's tensor, filled up along the first axis to the length of the longest.

    torchmetrics stacks what it gathers, but ranks hold different numbers of items. Bytes are filled
    up with 0, other numbers with ``NOBODY``.
    """
    gathered = gather_all_tensors(values, group)
    longest = max(len(each) for each in gathered)
    fill = 0 if values.dtype == torch.uint8 else NOBODY
    inner = [0, 0] * (values.ndim - 1)  # from the last axis to the first
    return [pad(each, [*inner, 0, longest - len(each)], value=fill) for each in gathered]


def each_once(
    indices: Int[Tensor, "*places"], rows: Shaped[Tensor, "..."]
) -> tuple[Int[Tensor, "U"], Shaped[Tensor, "U ..."]]:
    """Return each item's place, in order, and its row, without what only fills up.

    Args:
        indices: each row's item; after gathering, with an axis for the ranks.
        rows: what is known of each, with the same leading axes.
    """
    unique, inverse = torch.unique(indices, return_inverse=True)
    kept = torch.zeros(
        (len(unique), *rows.shape[indices.ndim :]), dtype=rows.dtype, device=rows.device
    )
    kept[inverse] = rows
    counted = unique != NOBODY
    return unique[counted], kept[counted]
