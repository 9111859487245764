import os
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lit_vlm.pretraining import sigmoid_contrastive_loss, softmax_contrastive_loss
from lit_vlm.pretraining.gradient_caching import recomputed


class Pretraining(nn.Module):
    """Two small towers with a shared head, and a loss of their vectors."""

    def __init__(
        self, loss: str, micro_batch_size: int | None, dropout: float = 0.0, width: int = 16
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        head = nn.Linear(width, 4)
        parts = [nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width), nn.GELU(), head]
        self.image_tower = nn.Sequential(nn.Linear(6, width), *parts)
        self.text_tower = nn.Sequential(nn.Embedding(9, width), *parts)
        self.log_scale = nn.Parameter(torch.tensor(1.5))
        self.bias = nn.Parameter(torch.tensor(-2.0))
        self.loss = loss
        self.micro_batch_size = micro_batch_size
        self.sizes: list[int] = []

    def encode_images(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        return normalize(self.image_tower(images), dim=1)

    def encode_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        return normalize((self.text_tower(ids) * mask[..., None]).sum(dim=1), dim=1)

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        image_vectors = recomputed(self.encode_images, images, self.micro_batch_size)
        text_vectors = recomputed(self.encode_texts, (ids, mask), self.micro_batch_size)
        if self.loss == "softmax":
            return softmax_contrastive_loss(image_vectors, text_vectors, self.log_scale.exp())
        return sigmoid_contrastive_loss(
            image_vectors, text_vectors, self.log_scale.exp(), self.bias
        )


def some_batch(count: int = 12, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(0, 9, (count, 5))
    return [torch.randn(count, 6, dtype=dtype), ids, (ids > 3) | (torch.arange(5) == 0)]


def step(module: nn.Module, batch: list[Tensor]) -> list[Tensor]:
    """Return the loss and all gradients."""
    torch.manual_seed(2)
    loss = module(*batch)
    loss.backward()
    gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
    return [loss.detach(), *gradients]


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("micro_batch_size", [1, 4, 5])
def test_micro_batches_have_the_gradients_of_the_whole_batch(
    loss: str, micro_batch_size: int
) -> None:
    whole = step(Pretraining(loss, None).double(), some_batch())
    module = Pretraining(loss, micro_batch_size).double()
    assert_close(step(module, some_batch()), whole, rtol=1e-12, atol=1e-14)
    forward = -(-12 // micro_batch_size)
    assert len(module.sizes) == 2 * forward  # each once again in the backward pass
    assert max(module.sizes) == micro_batch_size


def in_micro_batches(module: Pretraining, batch: list[Tensor], size: int) -> Tensor:
    """Return the loss of vectors made in micro-batches, all activations kept."""
    images, ids, mask = batch
    parts = [slice(start, start + size) for start in range(0, len(images), size)]
    image_vectors = torch.cat([module.encode_images(images[part]) for part in parts])
    text_vectors = torch.cat([module.encode_texts(ids[part], mask[part]) for part in parts])
    return softmax_contrastive_loss(image_vectors, text_vectors, module.log_scale.exp())


def test_dropout_is_the_same_in_both_passes() -> None:
    module, other = (Pretraining("softmax", 4, dropout=0.5).double() for _ in range(2))
    batch = some_batch()
    values = step(module, batch)
    after = torch.rand(1)
    torch.manual_seed(2)
    loss: Any = in_micro_batches(other, batch, 4)
    loss.backward()
    gradients = [weight.grad for weight in other.parameters() if weight.grad is not None]
    assert_close(values, [loss.detach(), *gradients], rtol=1e-12, atol=1e-14)
    assert_close(after, torch.rand(1), rtol=0, atol=0)  # the second pass draws nothing of its own
    assert not torch.isclose(module(*batch), loss)


def test_the_second_pass_has_the_precision_of_the_first() -> None:
    batch = some_batch(dtype=torch.float32)
    module, other = (Pretraining("softmax", 4) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss, expected = module(*batch), in_micro_batches(other, batch, 4)
    loss.backward()
    torch.autograd.backward(expected)
    assert_close(loss, expected, rtol=0, atol=0)
    for weight, wanted in zip(module.parameters(), other.parameters(), strict=True):
        assert_close(weight.grad, wanted.grad, rtol=1e-6, atol=1e-7)
    plain = Pretraining("softmax", 4)
    assert not torch.isclose(plain(*batch), expected, rtol=1e-5)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the bytes of tensors that are alive, of those made while this is on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, size: int) -> None:
        self.live -= size


def peak_bytes(micro_batch_size: int | None, count: int) -> int:
    """Return the most that vectors and their gradients need at once, but for those of weights."""
    module = Pretraining("sigmoid", micro_batch_size, width=64)
    images, *texts = some_batch(count, torch.float32)
    with LiveBytes() as memory:
        image_vectors = recomputed(module.encode_images, images, micro_batch_size)
        text_vectors = recomputed(module.encode_texts, tuple(texts), micro_batch_size)
        torch.autograd.backward((image_vectors * text_vectors).sum())
    return memory.peak - sum(p.grad.nbytes for p in module.parameters() if p.grad is not None)


def test_activations_of_one_micro_batch_alone_are_alive() -> None:
    whole, large, small = (peak_bytes(size, 256) for size in (None, 32, 16))
    assert large < whole / 5
    assert small < 0.7 * large
    assert peak_bytes(32, 512) < 1.2 * large  # as many again: four numbers of each are kept


def test_encodes_once_without_gradients_and_what_fits() -> None:
    module = Pretraining("softmax", 4).double()
    with torch.no_grad():
        loss = module(*some_batch())
    assert module.sizes == [4, 4, 4]
    assert_close(loss, Pretraining("softmax", None).double()(*some_batch()).detach())
    for size in (None, 12, 50):
        module = Pretraining("softmax", size).double()
        step(module, some_batch())
        assert module.sizes == [12]


def test_a_locked_tower_is_not_encoded_again() -> None:
    module = Pretraining("softmax", 4).double()
    module.image_tower.requires_grad_(False)
    module.text_tower[0].requires_grad_(True)
    step(module, some_batch())
    assert module.sizes == [4, 4, 4]


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_data_parallel_training_has_the_gradients_of_the_whole_batch(
    loss: str, two_ranks: Callable[[Callable[[], Any]], list[Any]]
) -> None:
    def job() -> Any:
        rank = int(os.environ["LOCAL_RANK"])
        distributed.init_process_group("gloo", rank=rank, world_size=2)
        # DDP waits for each weight's gradient, and each must come once: without the bias's here.
        module = Pretraining(loss, 2).double()
        module.bias.requires_grad_(loss == "sigmoid")
        share = [tensor.chunk(2)[rank] for tensor in some_batch()]
        value, *gradients = step(DistributedDataParallel(module), share)
        distributed.all_reduce(value)
        distributed.destroy_process_group()
        return [value / 2, *gradients]

    whole = step(Pretraining(loss, None).double(), some_batch())
    for values in two_ranks(job):
        assert_close(values, whole, rtol=1e-12, atol=1e-14)


def test_refuses_micro_batches_of_nothing_and_unequal_tensors() -> None:
    with pytest.raises(ValueError, match="recomputed: micro_batch_size must be at least 1, got 0"):
        recomputed(nn.Identity(), torch.zeros(3, 2), 0)
    with pytest.raises(ValueError, match=r"same number of samples, got \[2, 3\]"):
        recomputed(torch.add, (torch.zeros(3, 2), torch.zeros(2, 2)), 1)
