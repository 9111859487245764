import math

import pytest
import torch
from torch import Tensor

from lit_vlm.metrics import nearest_neighbours as module
from lit_vlm.metrics.nearest_neighbours import nearest_neighbours


def drawn(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Vectors around the centres of four classes, which overlap, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (rows,), generator=generator)
    centres = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    return centres[labels] + torch.randn(rows, 6, generator=generator), labels


def by_hand(bank: Tensor, labels: Tensor, query: Tensor, k: int, temperature: float | None) -> int:
    """Compare one query with one vector at a time."""
    near = []
    for row, label in zip(bank.tolist(), labels.tolist(), strict=True):
        dot = sum(a * b for a, b in zip(row, query.tolist(), strict=True))
        near.append((dot / (math.hypot(*row) * math.hypot(*query.tolist())), label))
    votes = [0.0] * 4
    for cosine, label in sorted(near, reverse=True)[:k]:
        votes[label] += 1.0 if temperature is None else math.exp(cosine / temperature)
    return votes.index(max(votes))


@pytest.mark.parametrize("temperature", [0.07, 1.0, None])
def test_equals_votes_counted_by_hand(temperature: float | None) -> None:
    (bank, labels), (queries, truth) = drawn(60, 1), drawn(40, 2)
    ks = [20, 1, 5]
    found = nearest_neighbours(bank, labels, queries, ks, temperature)
    for k, row in zip(ks, found, strict=True):
        assert row.tolist() == [by_hand(bank, labels, query, k, temperature) for query in queries]
    assert 0.3 < float((found[0] == truth).float().mean()) < 1


def test_the_temperature_makes_the_nearest_count_more() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.7, 0.7], [0.7, 0.7]])
    labels, query = torch.tensor([2, 1, 1]), torch.tensor([[1.0, 0.05]])
    sharp = nearest_neighbours(bank, labels, query, [3], 0.01)
    flat = nearest_neighbours(bank, labels, query, [3], None)
    assert (sharp.item(), flat.item()) == (2, 1)
    assert nearest_neighbours(bank, labels, query, [3], 1e-4).item() == 2  # exp(1 / 1e-4) is inf


def test_equal_votes_go_to_the_lowest_label() -> None:
    bank, labels = torch.eye(3), torch.tensor([2, 0, 1])
    assert nearest_neighbours(bank, labels, torch.ones(1, 3), [3], None).item() == 0


def test_the_size_of_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    (bank, labels), (queries, _) = drawn(60, 1), drawn(40, 2)
    whole = nearest_neighbours(bank, labels, queries, [3])
    monkeypatch.setattr(module, "_CELLS", 200)
    assert torch.equal(nearest_neighbours(bank, labels, queries, [3]), whole)


def test_no_query_has_no_label() -> None:
    bank, labels = drawn(6, 1)
    assert nearest_neighbours(bank, labels, bank[:0], [1, 2]).shape == (2, 0)


@pytest.mark.parametrize("ks", [[0], [2, 7], []])
def test_refuses_more_neighbours_than_there_are(ks: list[int]) -> None:
    bank, labels = drawn(6, 1)
    with pytest.raises(ValueError, match="ks must lie between 1 and the number of vectors with la"):
        nearest_neighbours(bank, labels, bank, ks)


def test_refuses_a_temperature_of_zero() -> None:
    bank, labels = drawn(6, 1)
    with pytest.raises(ValueError, match="temperature must be positive, or None, got 0"):
        nearest_neighbours(bank, labels, bank, [1], 0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_query_that_is_not_finite_has_no_label(value: float) -> None:
    bank, labels = torch.eye(3), torch.tensor([0, 1, 2])
    queries = torch.eye(3)[[1, 0]]
    queries[1, 2] = value
    assert nearest_neighbours(bank, labels, queries, [1]).tolist() == [[1, -1]]


def test_refuses_a_bank_that_is_not_finite() -> None:
    bank, labels = drawn(6, 1)
    bank[2, 0], bank[4, 1] = torch.nan, torch.inf
    with pytest.raises(ValueError, match="nearest_neighbours: vectors .* finite, got 2 of 6 with"):
        nearest_neighbours(bank, labels, bank, [1])
