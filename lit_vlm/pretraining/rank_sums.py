"""Sums over all processes of a run."""

from torch import Tensor, distributed


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Add a tensor up over all processes, in place; with one process it stays as it is.

    No gradient goes through it.
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(tensor)
    return tensor


def max_over_ranks(tensor: Tensor) -> Tensor:
    """Take the maximum of a tensor over all processes, in place."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
    return tensor
