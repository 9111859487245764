"""CrossAttentionResampler against Qwen-VL's, written down from the paper and its code.

https://arxiv.org/abs/2308.12966 and https://huggingface.co/Qwen/Qwen-VL, visual.py
"""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.testing import assert_close

from lit_vlm.connectors import CrossAttentionResampler

IN, OUT, QUERIES, HEADS = 12, 16, 9, 2
PATCHES = pytest.mark.parametrize("num_patches", [4, 9, 16, 36])


def sincos_table(dim: int, side: int) -> Tensor:
    """Compute MAE's table number by number; the grid is built w-first, so the column leads."""
    rows = []
    for y in range(side):
        for x in range(side):
            row = []
            for coordinate in (x, y):
                omegas = [1 / 10000 ** (k / (dim / 4)) for k in range(dim // 4)]
                row += [math.sin(coordinate * omega) for omega in omegas]
                row += [math.cos(coordinate * omega) for omega in omegas]
            rows.append(row)
    return torch.tensor(rows)


def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(variance + 1e-6) * weight + bias


def attend(q: Tensor, k: Tensor, v: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Attend sample by sample and head by head."""
    size = OUT // HEADS
    projected = []
    for index, x in enumerate((q, k, v)):
        part = slice(index * OUT, (index + 1) * OUT)
        projected.append(x @ weights["attention.in_proj_weight"][part].T)
        projected[-1] = projected[-1] + weights["attention.in_proj_bias"][part]
    q, k, v = projected
    heads = []
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        scores = q[:, own] @ k[:, own].T / math.sqrt(size)
        heads.append(scores.softmax(-1) @ v[:, own])
    joined = torch.cat(heads, dim=-1)
    return joined @ weights["attention.out_proj.weight"].T + weights["attention.out_proj.bias"]


def oracle(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    table = sincos_table(OUT, math.isqrt(QUERIES))
    side = math.isqrt(tokens.shape[1])
    at_patches = table
    if side**2 != QUERIES:
        grid = table.reshape(1, math.isqrt(QUERIES), math.isqrt(QUERIES), OUT)
        grid = interpolate(grid.permute(0, 3, 1, 2), (side, side), mode="bicubic")
        at_patches = grid.permute(0, 2, 3, 1).flatten(0, 2)
    normed = norm(weights["queries"], weights["norm_queries.weight"], weights["norm_queries.bias"])
    q = normed + table
    outputs = []
    for sample in tokens:
        projected = sample @ weights["project_in.weight"].T
        k0 = norm(projected, weights["norm_in.weight"], weights["norm_in.bias"])
        y = attend(q, k0 + at_patches, k0, weights)
        normed = norm(y, weights["norm_out.weight"], weights["norm_out.bias"])
        outputs.append(normed @ weights["project_out.weight"].T)
    return torch.stack(outputs)


def shaken() -> CrossAttentionResampler:
    torch.manual_seed(0)
    connector = CrossAttentionResampler(IN, OUT, num_queries=QUERIES, num_heads=HEADS)
    for parameter in connector.parameters():  # initial norms are 1 and biases 0: hide no mistake
        nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.3)
    return connector


def test_the_table_is_maes() -> None:
    connector = CrossAttentionResampler(in_dim=8, out_dim=64, num_queries=256)
    assert_close(connector.positions, sincos_table(64, 16), atol=1e-6, rtol=0)


@PATCHES
@pytest.mark.parametrize("train", [True, False])
def test_values_are_qwen_vls(num_patches: int, train: bool) -> None:
    connector = shaken().train(train)
    tokens = torch.randn(3, num_patches, IN)
    with torch.no_grad():
        expected = oracle(dict(connector.named_parameters()), tokens)
        assert expected.std() > 0.1, "the tokens must say something"
        assert_close(connector(tokens), expected, atol=1e-5, rtol=1e-5)


@PATCHES
def test_gradients_are_qwen_vls(num_patches: int) -> None:
    connector = shaken()
    copies = {
        name: weight.detach().clone().requires_grad_()
        for name, weight in connector.named_parameters()
    }
    ours = torch.randn(3, num_patches, IN, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    weights = torch.randn(3, QUERIES, OUT) / OUT
    (connector(ours) * weights).sum().backward()
    torch.autograd.backward((oracle(copies, theirs) * weights).sum())
    assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)
    for name, weight in connector.named_parameters():
        assert weight.grad is not None
        assert weight.grad.abs().max() > 1e-4
        assert_close(weight.grad, copies[name].grad, atol=1e-5, rtol=1e-5, msg=name)
