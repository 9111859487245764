import pytest
import torch
from torch import Tensor

from lit_vlm import digest as module
from lit_vlm.digest import digest, digests

TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", TYPES)
def test_tells_any_change_of_one_value(dtype: torch.dtype) -> None:
    values = torch.arange(37).remainder(2).to(dtype)
    seen = {int(digest(values))}
    for place in range(len(values)):
        changed = values.clone()
        changed[place] = 1 - int(values[place])
        seen.add(int(digest(changed)))
    assert len(seen) == 38


def test_tells_the_smallest_change_of_a_number_and_of_its_sign() -> None:
    one = torch.ones(8)
    next_to_it = torch.nextafter(one, 2 * one)
    assert digest(one) != digest(next_to_it)
    assert digest(torch.zeros(8)) != digest(-torch.zeros(8))


def test_tells_an_order_from_another() -> None:
    rows = torch.randn(4, 6)
    orders = [rows, rows.flip(0), rows.flip(1), rows.roll(1, 0), rows.roll(1, 1)]
    assert len(set(digests(orders))) == len(orders)


def test_equal_bits_are_equal_also_where_values_are_no_numbers() -> None:
    odd = torch.tensor([torch.nan, torch.inf, -0.0, 1e-45])
    assert digest(odd) == digest(odd.clone())


def test_depends_on_what_a_tensor_says_not_on_how_it_lies_in_memory() -> None:
    rows = torch.randn(2, 3, 4, 4)
    assert digest(rows) == digest(rows.contiguous(memory_format=torch.channels_last))
    shifted = torch.cat([torch.zeros(1), rows.flatten()])[1:]  # begins between two words
    assert digest(shifted) == digest(rows.flatten())


def test_pieces_make_one_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(1000)
    monkeypatch.setattr(module, "_CHUNK", 64)
    seen = {int(digest(values))}
    for place in (0, 15, 16, 17, 999):
        changed = values.clone()
        changed[place] += 1
        seen.add(int(digest(changed)))
    assert len(seen) == 6
    swapped = torch.cat([values[16:32], values[:16], values[32:]])  # two whole pieces
    assert int(digest(swapped)) not in seen


def test_lengths_differ_where_the_rest_is_zero() -> None:
    assert len(set(digests([torch.zeros(n, dtype=torch.uint8) for n in range(20)]))) == 20


def test_takes_single_values_complex_ones_and_nothing() -> None:
    tensors: list[Tensor] = [torch.tensor(3.0), torch.zeros(2, dtype=torch.complex64)]
    assert len(set(digests([*tensors, torch.zeros(0)]))) == 3


def test_digests_come_in_the_order_of_the_tensors() -> None:
    tensors = [torch.tensor([i]) for i in range(5)]
    assert digests(tensors) == [int(digest(tensor)) for tensor in tensors]
    assert digests([]) == []


def test_leaves_the_tensor_alone() -> None:
    values = torch.randn(5, requires_grad=True)
    before = values.detach().clone()
    assert not digest(values).requires_grad
    assert torch.equal(values, before)
