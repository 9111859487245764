"""Embeddings of other processes, whose gradients find their way back to the process they are of."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed


def num_ranks() -> int:
    """Return the number of processes that train together, 1 outside of a group."""
    on = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if on else 1


def rank() -> int:
    """Return the number of this process, 0 outside of a group."""
    return distributed.get_rank() if num_ranks() > 1 else 0


def gather(embeddings: Float[Tensor, "B D"]) -> Float[Tensor, "N D"]:
    """Return the embeddings of all processes in order of rank, as many from each.

    The gradient of an embedding is the sum of what all processes' losses have for it.
    """
    gathered: Tensor = _Gather.apply(embeddings) if num_ranks() > 1 else embeddings
    return gathered


def gather_ids(ids: Int[Tensor, "B"]) -> Int[Tensor, "N"]:
    """Return the numbers of all processes in order of rank, as many from each."""
    return _gather(ids) if num_ranks() > 1 else ids


def pass_on(embeddings: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Give the embeddings to the next rank of the ring and return those of the one before.

    Gradients travel the other way: to the rank that the embeddings came from.
    """
    received: Tensor = _PassOn.apply(embeddings, 1)
    return received


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings: Tensor) -> Tensor:
        return _gather(embeddings)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Not reduce_scatter, which not every backend has. A copy: autograd may hold the gradient.
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.chunk(num_ranks())[rank()]


class _PassOn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, step: int) -> Tensor:
        ctx.step = step
        return _shift(embeddings, step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _shift(gradient, -ctx.step), None


def _gather(tensor: Tensor) -> Tensor:
    gathered = [torch.empty_like(tensor) for _ in range(num_ranks())]
    distributed.all_gather(gathered, tensor.contiguous())
    return torch.cat(gathered)


def _shift(tensor: Tensor, step: int) -> Tensor:
    sent, received = tensor.contiguous(), torch.empty_like(tensor, requires_grad=False)
    to, source = (rank() + step) % num_ranks(), (rank() - step) % num_ranks()
    # Both at once: a ring of processes that all send first would wait for ever.
    for request in distributed.batch_isend_irecv(
        [
            distributed.P2POp(distributed.isend, sent, to),
            distributed.P2POp(distributed.irecv, received, source),
        ]
    ):
        request.wait()
    return received
