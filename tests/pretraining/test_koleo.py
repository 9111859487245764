import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.testing import assert_close

from lit_vlm.pretraining.koleo import koleo_loss


def reference(student_output: Tensor, eps: float = 1e-8) -> Tensor:
    # https://github.com/facebookresearch/dinov2/blob/main/dinov2/loss/koleo_loss.py
    student_output = F.normalize(student_output, eps=eps, p=2, dim=-1)
    x = student_output.detach()
    dots = torch.mm(x, x.t())
    n = x.shape[0]
    dots.view(-1)[:: (n + 1)].fill_(-1)  # Trick to fill diagonal with -1
    _, nearest = torch.max(dots, dim=1)
    distances = nn.PairwiseDistance(2, eps=1e-8)(student_output, student_output[nearest])
    return -torch.log(distances + eps).mean()


def test_equals_metas_code_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(6, 5, requires_grad=True)
    loss, expected = koleo_loss(vectors), reference(vectors)
    assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, vectors)
    assert_close(gradient, torch.autograd.grad(expected, vectors)[0])


def test_spreads_vectors() -> None:
    close = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    apart = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert koleo_loss(apart) < koleo_loss(close)
    assert_close(koleo_loss(apart), torch.tensor(2.0).sqrt().log().neg())


def test_works_in_float32_whatever_it_gets() -> None:
    vectors = torch.randn(4, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(koleo_loss(vectors), koleo_loss(vectors.float()))
        assert koleo_loss(vectors).dtype == torch.float32


def test_a_single_vector_costs_nothing() -> None:
    vector = torch.ones(1, 3, requires_grad=True)
    koleo_loss(vector).backward()  # type: ignore[no-untyped-call]
    assert vector.grad is not None
    assert not vector.grad.any()
