import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.testing import assert_close

from lit_vlm.pretraining.patch_loss import patch_loss


def reference(s: Tensor, t: Tensor, student_masks_flat: Tensor) -> Tensor:
    # https://github.com/facebookresearch/dinov2/blob/main/dinov2/loss/ibot_patch_loss.py
    loss = torch.sum(t * F.log_softmax(s / 0.1, dim=-1), dim=-1)
    masks_weight = (
        (1 / student_masks_flat.sum(-1).clamp(min=1.0))
        .unsqueeze(-1)
        .expand_as(student_masks_flat)[student_masks_flat]
    )
    return -(loss * masks_weight).sum() / student_masks_flat.shape[0]


def test_equals_metas_code_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    masks = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()
    scores = torch.randn(4, 7, requires_grad=True)
    targets = torch.randn(4, 7).softmax(dim=-1)
    loss, expected = patch_loss(scores, targets, masks, 0.1), reference(scores, targets, masks)
    assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert_close(gradient, torch.autograd.grad(expected, scores)[0])


def test_images_count_alike_however_much_of_them_is_masked() -> None:
    masks = torch.tensor([[True, True, True, False], [True, False, False, False]])
    targets = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    scores = torch.tensor([[0.0, 10.0]] * 3 + [[0.0, 10.0]])  # wrong in the first image
    assert_close(patch_loss(scores, targets, masks, 1), torch.tensor(5.0), atol=1e-4, rtol=0)


def test_without_a_mask_there_is_no_loss() -> None:
    nothing = torch.zeros(0, 3, requires_grad=True)
    loss = patch_loss(nothing, nothing.detach(), torch.zeros(2, 4, dtype=torch.bool), 0.1)
    assert loss.item() == 0
    loss.backward()  # type: ignore[no-untyped-call]
