import math

import torch
from torch.testing import assert_close

from lit_vlm.pretraining.target_spread import entropies


def test_one_prototype_for_all_shows_as_zero_in_both() -> None:
    each, marginal = entropies(torch.tensor([[0.0, 1.0, 0.0]] * 4))
    assert each == 0
    assert marginal == 0


def test_the_uniform_distribution_for_all_shows_as_the_greatest_in_both() -> None:
    each, marginal = entropies(torch.full((4, 3), 1 / 3))
    assert_close(each, torch.tensor(math.log(3)))
    assert_close(marginal, each)


def test_targets_that_tell_rows_apart_show_in_the_difference() -> None:
    each, marginal = entropies(torch.eye(4))
    assert each == 0
    assert_close(marginal, torch.tensor(math.log(4)))
