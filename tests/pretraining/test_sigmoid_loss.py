from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize, softplus
from torch.testing import assert_close

from lit_vlm.pretraining import sigmoid_contrastive_loss

SCALE = torch.tensor(10.0, dtype=torch.float64)
BIAS = torch.tensor(-10.0, dtype=torch.float64)


def some_pairs(
    count: int = 5, width: int = 4, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    images, texts = torch.randn(2, count, width, dtype=dtype)
    return normalize(images, dim=1), normalize(texts, dim=1)


def loss_and_gradients(images: Tensor, texts: Tensor, *rest: Tensor | None) -> list[Tensor]:
    leaves = [value.clone().requires_grad_() for value in (images, texts, SCALE, BIAS)]
    loss: Any = sigmoid_contrastive_loss(*leaves, *rest)  # type: ignore[arg-type]
    loss.backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def formula(images: Tensor, texts: Tensor, left_out: Tensor | None = None) -> Tensor:
    signs = 2 * torch.eye(len(images), dtype=images.dtype) - 1
    losses = -logsigmoid(signs * (SCALE * images @ texts.T + BIAS))
    if left_out is not None:
        losses = losses.masked_fill(left_out, 0)
    return losses.sum(dim=1).mean()


def test_sums_over_texts_and_averages_over_pictures() -> None:
    images, texts = some_pairs()
    assert_close(sigmoid_contrastive_loss(images, texts, SCALE, BIAS), formula(images, texts))


@pytest.mark.parametrize("count", [4, 64])
def test_the_first_step_has_the_loss_that_the_bias_tells(count: int) -> None:
    images, texts = torch.eye(2 * count, dtype=torch.float64).chunk(2)
    start = torch.tensor(10.0, dtype=torch.float64).log().exp()
    loss = sigmoid_contrastive_loss(images, texts, start, BIAS)
    ten = torch.tensor(10.0, dtype=torch.float64)
    assert_close(loss, softplus(ten) + (count - 1) * softplus(-ten))
    assert_close(float(loss), 10.0 + count * 4.54e-5, rtol=1e-6, atol=1e-6)


def test_turning_both_modalities_changes_nothing_but_turns_the_gradients() -> None:
    images, texts = some_pairs()
    turn, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))
    loss, of_images, of_texts, *others = loss_and_gradients(images, texts)
    turned = loss_and_gradients(images @ turn, texts @ turn)
    assert_close(turned, [loss, of_images @ turn, of_texts @ turn, *others])
    assert not torch.isclose(loss_and_gradients(images @ turn, texts)[0], loss)


def test_the_scale_multiplies_similarities_and_not_the_bias() -> None:
    images, texts = some_pairs()
    loss = sigmoid_contrastive_loss(images, texts, SCALE, BIAS)
    assert_close(sigmoid_contrastive_loss(3 * images, texts, SCALE / 3, BIAS), loss)
    assert_close(sigmoid_contrastive_loss(images, texts, SCALE[None], BIAS[None]), loss)


@pytest.mark.parametrize("chunk_size", [None, 1, 2, 5, 9])
@pytest.mark.parametrize("ids", [None, torch.tensor([7, 8, 7, 9, 8])])
def test_the_gradient_is_that_of_finite_differences(
    chunk_size: int | None, ids: Tensor | None
) -> None:
    leaves = [value.requires_grad_() for value in (*some_pairs(), SCALE.clone(), BIAS.clone())]

    def loss(*now: Tensor) -> Tensor:
        images, texts, scale, bias = now
        return sigmoid_contrastive_loss(images, texts, scale, bias, ids, chunk_size)

    assert torch.autograd.gradcheck(loss, leaves)
    left_out = None if ids is None else (ids[:, None] == ids) & ~torch.eye(5, dtype=torch.bool)
    with torch.no_grad():
        assert_close(loss(*leaves), formula(leaves[0], leaves[1], left_out))


def test_a_text_that_repeats_is_no_wrong_answer() -> None:
    images, texts = some_pairs(3)
    loss = sigmoid_contrastive_loss(images, texts, SCALE, BIAS, torch.tensor([4, 4, 5]))
    left_out = torch.zeros(3, 3, dtype=torch.bool)
    left_out[0, 1] = left_out[1, 0] = True
    assert_close(loss, formula(images, texts, left_out))
    all_differ = sigmoid_contrastive_loss(images, texts, SCALE, BIAS, torch.tensor([1, 2, 3]))
    assert_close(all_differ, formula(images, texts))


def test_right_answers_of_great_certainty_keep_a_loss_and_a_gradient() -> None:
    """In 32 bits 1 - sigmoid(30) is zero, and softplus(30) - 30 as well."""
    images = torch.eye(2, requires_grad=True)
    start = (torch.tensor(60.0), torch.tensor(-30.0))
    loss: Any = sigmoid_contrastive_loss(images, torch.eye(2), *start)
    loss.backward()
    assert_close(float(loss.detach()), 2 * float(torch.tensor(-30.0).exp()), rtol=1e-5, atol=0)
    assert images.grad is not None
    slope = -60 * torch.tensor(-30.0).exp() / 2
    assert_close(images.grad.diagonal(), slope.expand(2), rtol=1e-5, atol=0)


def test_locked_images_and_a_fixed_scale_get_no_gradient() -> None:
    images, texts = some_pairs()
    texts.requires_grad_()
    loss: Any = sigmoid_contrastive_loss(images, texts, SCALE, BIAS)
    loss.backward()
    assert_close(texts.grad, loss_and_gradients(images, texts.detach())[2])
    assert images.grad is None


def test_keeps_no_similarities() -> None:
    images, texts = (value.requires_grad_() for value in some_pairs(64, 4))
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        sigmoid_contrastive_loss(images, texts, SCALE, BIAS)
    assert kept
    assert max(tensor.numel() for tensor in kept) == images.numel()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_computes_in_32_bits(dtype: torch.dtype, autocast: bool) -> None:
    images, texts = some_pairs(dtype=torch.float32)
    scale = torch.tensor(100.0, requires_grad=True)
    images, texts = images.to(dtype).requires_grad_(), texts.to(dtype)
    expected = sigmoid_contrastive_loss(images.double(), texts.double(), scale.double(), BIAS)
    with torch.autocast("cpu", dtype, enabled=autocast):
        loss: Any = sigmoid_contrastive_loss(images, texts, scale, BIAS)
    assert loss.dtype == torch.float32
    assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    loss.backward()
    assert images.grad is not None
    assert images.grad.dtype == dtype


def test_refuses_what_are_no_pairs() -> None:
    start = "sigmoid_contrastive_loss: every image must have one text"
    with pytest.raises(ValueError, match=start + r".* shapes \(5, 4\) and \(4, 4\)"):
        sigmoid_contrastive_loss(torch.zeros(5, 4), torch.zeros(4, 4), SCALE, BIAS)
    with pytest.raises(ValueError, match="must have one number, got 2 text_ids for 5"):
        sigmoid_contrastive_loss(*some_pairs(), SCALE, BIAS, torch.tensor([1, 2]))


def test_refuses_chunks_of_nothing() -> None:
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        sigmoid_contrastive_loss(*some_pairs(), SCALE, BIAS, chunk_size=0)
