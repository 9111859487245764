from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from lit_vlm.data.mixture import Mixture
from lit_vlm.data.mixture_order import MixtureOrder
from lit_vlm.data.sampling import TrainingOrder
from lit_vlm.data.training_order import Ordering, training_order

SAMPLES = [list(range(6)), list(range(6, 20))]


@pytest.mark.parametrize(
    ("options", "batches", "rows"),
    [
        ({}, 4, 11),
        ({"drop_last": True}, 3, 9),
        ({"limit": 2}, 2, 6),
        ({"limit": 9}, 4, 11),
        ({"limit": 0.5}, 2, 6),
        ({"limit": 9, "drop_last": True}, 3, 9),
    ],
)
def test_knows_what_is_read_of_a_pass(options: Mapping[str, Any], batches: int, rows: int) -> None:
    how = Ordering(0, 3, **options)
    assert (how.batches(11), how.taken(11)) == (batches, rows)


def test_sources_without_weights_are_read_once_a_pass() -> None:
    mixture = Mixture(("a", "b"), (0, 1))
    order = training_order(mixture, SAMPLES, Ordering(3, 4))
    assert isinstance(order, TrainingOrder)
    assert order(1) == TrainingOrder(20, seed=3)(1)
    alone = training_order(Mixture(("b",), (1,)), SAMPLES[1:], Ordering(3, 4))
    assert sorted(i for slot in alone(0) for i in slot.samples) == SAMPLES[1]


def test_a_mixture_is_grouped_pass_by_pass() -> None:
    shows = np.arange(20) % 2 == 0
    how = Ordering(0, 4, drop_last=True, lengths=np.arange(20), shows_images=shows)
    order = training_order(Mixture(("a", "b"), (0, 1), (1, 1)), SAMPLES, how, first=1)
    assert isinstance(order, MixtureOrder)
    for epoch in (1, 2, 3):
        slots = order(epoch)
        assert sum(slot.samples[0] < 6 for slot in slots) == 10
        batches = [slots[i : i + 4] for i in range(0, 20, 4)]
        kinds = [{bool(shows[slot.samples[0]]) for slot in batch} for batch in batches]
        assert sum(len(kind) == 1 for kind in kinds) >= 4
        lengths = [
            [slot.samples[0] for slot in b]
            for b, k in zip(batches, kinds, strict=True)
            if len(k) == 1
        ]
        assert all(batch == sorted(batch, reverse=True) for batch in lengths)


def test_a_source_is_ordered_alike_whatever_it_is_mixed_with() -> None:
    both = training_order(Mixture(("a", "b"), (0, 1), (1, 1)), SAMPLES, Ordering(0, 4))
    alone = training_order(Mixture(("b",), (1,), (2,)), SAMPLES[1:], Ordering(0, 4))
    mixed = [slot for epoch in (0, 1) for slot in both(epoch) if slot.samples[0] >= 6]
    assert mixed[:14] == alone(0)
