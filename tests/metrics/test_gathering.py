import torch
from torch.testing import assert_close

from lit_vlm.metrics.gathering import NOBODY, each_once


def test_keeps_each_items_row_in_the_order_of_the_data() -> None:
    indices = torch.tensor([[NOBODY, 3, 1], [1, NOBODY, NOBODY]])
    rows = torch.tensor([[[9.0, 9.0], [3.0, 0.0], [1.0, 5.0]], [[1.0, 5.0], [9.0, 9.0], [9, 9]]])
    index, kept = each_once(indices, rows)
    assert index.tolist() == [1, 3]
    assert_close(kept, torch.tensor([[1.0, 5.0], [3.0, 0.0]]))


def test_nothing_but_filling_is_nothing() -> None:
    index, kept = each_once(torch.tensor([NOBODY]), torch.tensor([0.0]))
    assert len(index) == len(kept) == 0
