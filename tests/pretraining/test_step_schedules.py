import math

import numpy as np
from numpy.testing import assert_allclose

from lit_vlm.pretraining.step_schedules import cosine_between, in_steps, rising


def test_the_cosine_is_metas() -> None:
    # https://github.com/facebookresearch/dinov2/blob/main/dinov2/utils/utils.py
    iters = np.arange(50)
    expected = 1 + 0.5 * (0.992 - 1) * (1 + np.cos(np.pi * iters / len(iters)))
    assert_allclose([cosine_between(0.992, 1, int(i), 50) for i in iters], expected)


def test_the_cosine_ends_and_stays() -> None:
    assert cosine_between(0.5, 1, 10, 10) == cosine_between(0.5, 1, 11, 10) == 1
    assert cosine_between(0.5, 1, 10, math.inf) == 0.5


def test_rises_in_a_line() -> None:
    assert_allclose([rising(0.04, 0.07, s, 3) for s in range(5)], [0.04, 0.05, 0.06, 0.07, 0.07])
    assert rising(0.04, 0.07, 0, 0) == 0.07


def test_a_share_is_of_the_run() -> None:
    assert (in_steps(3, 100), in_steps(0.3, 100), in_steps(0.3, math.inf)) == (3, 30, 0)
