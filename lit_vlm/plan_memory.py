"""What each process holds of weights, gradients and optimizer, by strategy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import NamedTuple

_FULL = 4  # bytes of a float32
_SMALL = (
    100_000  # numbers; ZeRO 3 keeps what has no more of them whole (param_persistence_threshold)
)
_BYTES = {"bf16-true": 2, "16-true": 2, "64-true": 8}
_HALF = ("bf16-true", "16-true", "bf16-mixed", "16-mixed")


class PlannedTensor(NamedTuple):
    """A parameter, as far as memory is concerned.

    Attributes:
        shape: its shape.
        itemsize: bytes of a number in it, as the model is made.
        is_floating: whether a precision may change that.
        trains: whether it has a gradient.
        has_state: whether the optimizer keeps averages of it, now or of an earlier stage.
    """

    shape: tuple[int, ...]
    itemsize: int
    is_floating: bool
    trains: bool
    has_state: bool

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Bytes on the process that holds most, when a step has its gradients.

    Attributes:
        weights: of the model.
        gradients: of what trains, at the end of the backward pass.
        optimizer: AdamW's two averages, and DeepSpeed's copy of the weights in 32 bits, which its
            engine makes even of weights that have as many.
    """

    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer


def rank_memory(
    tensors: Sequence[PlannedTensor], precision: str, ranks: int
) -> dict[str, RankMemory]:
    """Return the memory of a process for each strategy, by its name as ``--trainer.strategy``.

    Activations, buffers and what is gathered or sent for a moment come on top of it.

    Args:
        tensors: the model's parameters, each once.
        precision: the trainer's, such as ``bf16-mixed``.
        ranks: number of processes.
    """
    return {
        "ddp": _replicated(tensors, precision),
        "fsdp2": _sharded(tensors, precision, ranks),
        "deepspeed_stage_1": _zero_1_or_2(tensors, precision, ranks, splits_gradients=False),
        "deepspeed_stage_2": _zero_1_or_2(tensors, precision, ranks, splits_gradients=True),
        "deepspeed_stage_3": _zero_3(tensors, precision, ranks),
    }


def _replicated(tensors: Sequence[PlannedTensor], precision: str) -> RankMemory:
    return _by_tensor(tensors, precision, lambda tensor: tensor.numel)


def _sharded(tensors: Sequence[PlannedTensor], precision: str, ranks: int) -> RankMemory:
    # The first axis is split like torch.chunk; the first process has most, all allocate as much.
    def rows(tensor: PlannedTensor) -> int:
        first, *others = tensor.shape or (1,)
        return ceil(first / ranks) * prod(others)

    return _by_tensor(tensors, precision, rows)


def _by_tensor(
    tensors: Sequence[PlannedTensor], precision: str, held: Callable[[PlannedTensor], int]
) -> RankMemory:
    sizes = [(t, held(t) * _itemsize(t, precision)) for t in tensors]
    return RankMemory(
        weights=sum(size for _, size in sizes),
        gradients=sum(size for tensor, size in sizes if tensor.trains),
        # Averages are as precise as the weights; each tensor's number of steps is a float32.
        optimizer=sum(2 * size + _FULL for tensor, size in sizes if tensor.has_state),
    )


def _zero_1_or_2(
    tensors: Sequence[PlannedTensor], precision: str, ranks: int, splits_gradients: bool
) -> RankMemory:
    trained = [tensor for tensor in tensors if tensor.trains]
    share = ceil(sum(tensor.numel for tensor in trained) / ranks)
    gradients = sum(tensor.numel * _engine_itemsize(tensor, precision) for tensor in trained)
    return RankMemory(
        weights=sum(tensor.numel * _engine_itemsize(tensor, precision) for tensor in tensors),
        gradients=ceil(gradients / ranks) if splits_gradients else gradients,
        optimizer=3 * share * _FULL,
    )


def _zero_3(tensors: Sequence[PlannedTensor], precision: str, ranks: int) -> RankMemory:
    trained = [tensor for tensor in tensors if tensor.trains]
    share = sum(ceil(tensor.numel / ranks) for tensor in trained)

    def size(tensor: PlannedTensor) -> int:
        return ceil(tensor.numel / ranks) * _engine_itemsize(tensor, precision)

    small = [tensor for tensor in tensors if tensor.numel <= _SMALL]
    whole = sum(tensor.numel * _engine_itemsize(tensor, precision) for tensor in small)
    return RankMemory(
        weights=sum(map(size, tensors)) + whole,
        gradients=sum(map(size, trained)),
        optimizer=3 * share * _FULL,
    )


def _itemsize(tensor: PlannedTensor, precision: str) -> int:
    return _BYTES.get(precision, tensor.itemsize) if tensor.is_floating else tensor.itemsize


def _engine_itemsize(tensor: PlannedTensor, precision: str) -> int:
    # For DeepSpeed, mixed means half: the engine casts the model, and updates a copy in 32 bits.
    return 2 if precision in _HALF and tensor.is_floating else _itemsize(tensor, precision)
