import pytest
import torch
from torch import nn

from lit_vlm.gradient_norms import gradient_norms, norms_by_part


def weight(gradient: torch.Tensor) -> nn.Parameter:
    made = nn.Parameter(torch.zeros(gradient.shape, dtype=gradient.dtype))
    made.grad = gradient
    return made


def test_is_the_norm_of_each_gradient_in_the_order_of_the_parameters() -> None:
    gradients = {"b": torch.randn(3, 2), "a": torch.randn(5), "c": torch.randn(2).bfloat16()}
    found = gradient_norms({name: weight(g) for name, g in gradients.items()})
    assert list(found) == ["b", "a", "c"]
    for name, gradient in gradients.items():
        assert found[name] == pytest.approx(float(gradient.float().norm()), rel=1e-2)


def test_leaves_out_what_has_no_gradient() -> None:
    assert gradient_norms({"idle": nn.Parameter(torch.zeros(1))}) == {}
    assert gradient_norms({"zero": weight(torch.zeros(2))}) == {"zero": 0.0}


def test_takes_sparse_gradients() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1, 1])).sum().backward()
    assert gradient_norms(dict(table.named_parameters())) == {"weight": pytest.approx(8**0.5)}


def test_parts_have_the_norm_of_all_that_an_optimizer_trains_of_them() -> None:
    body = {"body.a": weight(torch.ones(4)), "body.b": weight(torch.ones(5))}
    parts = {"body": body, "head": {"head.a": weight(torch.ones(1))}, "fusion": {}}
    optimizer = torch.optim.SGD([*body.values()], lr=0.1)
    norms = gradient_norms({**body, **parts["head"]})
    assert norms_by_part(parts, norms, optimizer) == {"body": pytest.approx(3.0)}
    assert norms_by_part(parts, {}, optimizer) == {"body": 0.0}
