"""Numbers that tell whether tensors are bit for bit what they were, without keeping copies."""

from collections.abc import Iterable

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

_CHUNK = 1 << 23  # bytes that are looked at in one go
# Odd constants of the hash function splitmix64, as signed numbers.
_STEP = -0x61C8864680B583EB
_MIX_1 = -0x40A7B892E31B1A47
_MIX_2 = -0x6B2FB644ECCEEE15


def digest(tensor: Shaped[Tensor, "..."]) -> Int64[Tensor, ""]:
    """Return 64 bits that depend on each bit of a tensor and on its place.

    It is computed where the tensor is, in pieces, so 14 GB of weights on a GPU cost neither memory
    nor a copy to the host. Equal bits give equal digests, also of values that are not numbers.

    Args:
        tensor: of any type; of a DTensor, this rank's shard counts.

    Example:
        >>> one, other = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])
        >>> bool(digest(one) == digest(one.clone())), bool(digest(one) == digest(other))
        (True, False)
    """
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    data = local.detach().contiguous().reshape(-1).view(torch.uint8)
    total = torch.full((), data.numel(), dtype=torch.int64, device=data.device)
    for begin in range(0, data.numel(), _CHUNK):
        words = _words(data[begin : begin + _CHUNK])
        words += torch.arange(begin + 1, begin + 1 + len(words), device=data.device) * _STEP
        total += _mix(words).sum()
    return total


def digests(tensors: Iterable[Shaped[Tensor, "..."]]) -> list[int]:
    """Return the digests of tensors as numbers; each device is waited for once."""
    found = [digest(tensor) for tensor in tensors]
    places: dict[torch.device, list[int]] = {}
    for place, value in enumerate(found):
        places.setdefault(value.device, []).append(place)
    numbers = [0] * len(found)
    for where in places.values():
        values = torch.stack([found[place] for place in where]).tolist()
        for place, number in zip(where, values, strict=True):
            numbers[place] = number
    return numbers


def _words(data: Tensor) -> Tensor:
    # A copy of its own begins at a multiple of eight bytes, which a slice need not do.
    padded = data.new_zeros(-(-len(data) // 8) * 8)
    padded[: len(data)] = data
    return padded.view(torch.int64)


def _mix(words: Tensor) -> Tensor:
    # Products of 64-bit integers wrap around; the shifts are those of unsigned numbers.
    words ^= (words >> 30).bitwise_and_(0x3FFFFFFFF)
    words *= _MIX_1
    words ^= (words >> 27).bitwise_and_(0x1FFFFFFFFF)
    words *= _MIX_2
    words ^= (words >> 31).bitwise_and_(0x1FFFFFFFF)
    return words
