import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

from lit_vlm.pretraining import softmax_contrastive_loss

SCALE = torch.tensor(1 / 0.07, dtype=torch.float64)


def some_pairs(
    count: int = 5, width: int = 4, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    images, texts = torch.randn(2, count, width, dtype=dtype)
    return normalize(images, dim=1), normalize(texts, dim=1)


def loss_and_gradients(images: Tensor, texts: Tensor, *rest: Tensor) -> list[Tensor]:
    leaves = [value.clone().requires_grad_() for value in (images, texts, SCALE)]
    loss: Any = softmax_contrastive_loss(*leaves, *rest)
    loss.backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def test_each_picture_finds_its_text_and_each_text_its_picture() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # Logits at scale 5: [[5, 3], [0, 4]].
    rows = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-4))
    columns = math.log(1 + math.exp(-5)) + math.log(1 + math.exp(-1))
    loss = softmax_contrastive_loss(images, texts, torch.tensor(5.0))
    assert_close(float(loss), (rows + columns) / 4, rtol=1e-6, atol=1e-6)


def test_orthogonal_pairs_have_the_loss_that_their_number_and_the_scale_tell() -> None:
    images = torch.eye(8, dtype=torch.float64)
    expected = (7 + SCALE.exp()).log() - SCALE
    assert_close(softmax_contrastive_loss(images, images, SCALE), expected)
    equal = torch.ones(8, 1, dtype=torch.float64)  # nothing tells the pairs apart: ln N
    assert_close(float(softmax_contrastive_loss(equal, equal, SCALE)), math.log(8))


def test_turning_both_modalities_changes_nothing_but_turns_the_gradients() -> None:
    images, texts = some_pairs()
    turn, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))
    loss, of_images, of_texts, of_scale = loss_and_gradients(images, texts)
    turned = loss_and_gradients(images @ turn, texts @ turn)
    assert_close(turned, [loss, of_images @ turn, of_texts @ turn, of_scale])
    assert not torch.isclose(loss_and_gradients(images @ turn, texts)[0], loss)


def test_the_scale_multiplies_similarities() -> None:
    images, texts = some_pairs()
    loss = softmax_contrastive_loss(images, texts, SCALE)
    assert_close(softmax_contrastive_loss(3 * images, texts, SCALE / 3), loss)
    assert_close(softmax_contrastive_loss(images, texts, SCALE[None]), loss)  # as sharded


def test_the_gradient_is_that_of_finite_differences() -> None:
    ids = torch.tensor([7, 8, 7, 9, 8])
    leaves = [value.requires_grad_() for value in (*some_pairs(), SCALE.clone())]

    def loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
        return softmax_contrastive_loss(images, texts, scale, ids)

    assert torch.autograd.gradcheck(loss, leaves)


def test_a_text_that_repeats_is_no_wrong_answer() -> None:
    images, texts = some_pairs(3)
    loss = softmax_contrastive_loss(images, texts, SCALE, torch.tensor([4, 4, 5]))
    logits = SCALE * images @ texts.T
    logits[0, 1] = logits[1, 0] = -torch.inf
    sides = [-side.log_softmax(1).diagonal().mean() for side in (logits, logits.T)]
    assert_close(loss, torch.stack(sides).mean())
    differ = softmax_contrastive_loss(images, texts, SCALE, torch.tensor([1, 2, 3]))
    assert_close(differ, softmax_contrastive_loss(images, texts, SCALE))
    # Of one text only its own picture is left.
    values = loss_and_gradients(images, texts, torch.tensor([4, 4, 4]))
    assert_close(values, [torch.zeros_like(value) for value in values])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_computes_in_32_bits(dtype: torch.dtype, autocast: bool) -> None:
    images, texts = some_pairs(dtype=torch.float32)
    scale = torch.tensor(100.0, requires_grad=True)
    images, texts = images.to(dtype).requires_grad_(), texts.to(dtype)
    expected = softmax_contrastive_loss(images.double(), texts.double(), scale.double())
    with torch.autocast("cpu", dtype, enabled=autocast):
        loss: Any = softmax_contrastive_loss(images, texts, scale)
    assert loss.dtype == torch.float32
    assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    loss.backward()
    assert images.grad is not None
    assert images.grad.dtype == dtype


def test_takes_vectors_of_two_types() -> None:
    images, texts = some_pairs(dtype=torch.float32)
    loss = softmax_contrastive_loss(images.bfloat16(), texts, SCALE)
    assert_close(loss, softmax_contrastive_loss(images.bfloat16().float(), texts, SCALE))


def test_refuses_what_are_no_pairs() -> None:
    start = "softmax_contrastive_loss: every image must have one text"
    with pytest.raises(ValueError, match=start + r".* shapes \(5, 4\) and \(4, 4\)"):
        softmax_contrastive_loss(torch.zeros(5, 4), torch.zeros(4, 4), SCALE)
    with pytest.raises(ValueError, match=start + r".* shapes \(0, 4\) and \(0, 4\)"):
        softmax_contrastive_loss(torch.zeros(0, 4), torch.zeros(0, 4), SCALE)
    with pytest.raises(ValueError, match="every text must have one number, got 2 text_ids for 5"):
        softmax_contrastive_loss(*some_pairs(), SCALE, torch.tensor([1, 2]))
