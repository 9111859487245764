from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.testing import assert_close

from lit_vlm.pretraining.dino_loss import dino_loss


def reference(students: Sequence[Tensor], teachers: Sequence[Tensor], temp: float) -> Tensor:
    # https://github.com/facebookresearch/dinov2/blob/main/dinov2/loss/dino_clstoken_loss.py
    total_loss = torch.zeros(())
    for s in students:
        lsm = F.log_softmax(s / temp, dim=-1)
        for t in teachers:
            loss = torch.sum(t * lsm, dim=-1)
            total_loss = total_loss - loss.mean()
    return total_loss


def reference_of_all_crops(scores: Tensor, targets: Tensor, num_local: int) -> Tensor:
    # https://github.com/facebookresearch/dinov2/blob/main/dinov2/train/ssl_meta_arch.py
    n_local_crops_loss_terms, n_global_crops_loss_terms = max(num_local * 2, 1), 2
    terms = n_global_crops_loss_terms + n_local_crops_loss_terms
    reversed_targets = torch.cat((targets[1], targets[0]))
    local = reference(scores[2:].unbind(), targets.unbind(), 0.1) / terms
    both = scores[:2].flatten(0, 1)
    return local + reference([both], [reversed_targets], 0.1) * 2 / terms


def test_equals_metas_code_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    scores = torch.randn(5, 3, 7, requires_grad=True)
    targets = torch.randn(2, 3, 7).softmax(dim=-1)
    loss = dino_loss(scores, targets, 0.1)
    expected = reference_of_all_crops(scores, targets, num_local=3)
    assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert_close(gradient, torch.autograd.grad(expected, scores)[0])


def test_a_global_crop_is_never_compared_with_itself() -> None:
    targets = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    as_itself, as_the_other = 20 * targets, 20 * targets.flip(0)
    assert dino_loss(as_the_other, targets, 1) < 1e-6
    assert_close(dino_loss(as_itself, targets, 1), torch.tensor(20.0))


def test_a_single_crop_has_nothing_to_be_compared_with() -> None:
    with pytest.raises(ValueError, match="must have at least two crops, got 1"):
        dino_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), 1)
