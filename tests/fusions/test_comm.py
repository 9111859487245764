import math
from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.testing import assert_close

from lit_vlm.fusions import COMMFusion
from lit_vlm.testing import check_fusion

InDims = list[list[int]]
Scale = Literal["free", "softmax"]


def levels_of(in_dims: InDims) -> tuple[Tensor, ...]:
    return tuple(torch.randn(2, 5, dim) for dims in in_dims for dim in dims)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("in_dims", "mlp_encoders"),
    [
        ([[8]], [0]),
        ([[8, 8]], []),
        ([[8, 8, 8], [12, 12]], (1,)),
        ([[8], [12, 8], [4]], [0, -1]),
        ([[8], [4]], [1, -1]),
    ],
)
def test_contract(in_dims: InDims, mlp_encoders: Sequence[int], residual: bool) -> None:
    fusion = COMMFusion(in_dims, mlp_encoders=mlp_encoders, residual=residual)
    check_fusion(fusion, num_patches=6)
    assert fusion.num_tokens(6) == 6
    assert fusion.out_dim == sum(dims[0] for dims in in_dims)


def test_by_hand() -> None:
    fusion = COMMFusion([[2], [2, 2]], mlp_depth=1, mlp_ratio=0.5)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.fill_(1.0)
    levels = (torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[3.0, 1.0]]]), torch.zeros(1, 1, 2))
    # LayerNorm of the first is -1, 1, plus its bias 0, 2; the sum of both plus a bias is 3.
    # The second gives 2, 0 and also 3, the third 1, 1 and 3, together 6: gelu(6 + 6 + 1) + 1 = 14.
    assert_close(fusion(levels), torch.tensor([[[3.0, 3.0, 14.0, 14.0]]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_with_one_scale_a_branch_is_that_levels_projection(kept: int) -> None:
    in_dims = [[8, 8, 8], [12]]
    fusion = COMMFusion(in_dims)
    merge: nn.Module = fusion.merges[0]
    scales = merge.get_parameter("scales")
    nn.init.zeros_(scales)
    with torch.no_grad():
        scales[kept] = 1.0
    levels = levels_of(in_dims)
    norm_and_linear = merge.get_submodule(f"projections.{kept}")
    assert [type(layer) for layer in norm_and_linear.children()] == [nn.LayerNorm, nn.Linear]
    assert_close(fusion(levels)[..., :8], norm_and_linear(levels[kept]))


def test_only_the_named_branches_have_mlps() -> None:
    fusion = COMMFusion([[8], [12], [4]], mlp_encoders=[0, -1])
    assert [any(True for _ in branch.parameters()) for branch in fusion.mlps] == [True, False, True]
    levels = levels_of([[8], [12], [4]])
    merged = fusion.merges[1]((levels[1],))
    assert torch.equal(fusion(levels)[..., 8:20], merged)


@pytest.mark.parametrize("residual", [False, True])
def test_mlps_follow_each_other_with_a_gelu_inside(residual: bool) -> None:
    fusion = COMMFusion([[8]], mlp_encoders=[0], mlp_depth=3, mlp_ratio=1.5, residual=residual)
    (level,) = levels_of([[8]])
    expected = fusion.merges[0]((level,))
    stack = list(fusion.mlps[0].get_submodule("layers").children())
    assert len(stack) == 3
    for mlp in stack:
        up, down = (mlp.get_submodule(name) for name in "02")
        assert up.weight.shape == (12, 8)
        added = down(gelu(up(expected)))
        expected = expected + added if residual else added
    assert_close(fusion((level,)), expected)


@pytest.mark.parametrize("residual", [False, True])
def test_there_is_a_path_around_the_mlps_only_if_residual(residual: bool) -> None:
    fusion = COMMFusion([[8], [12]], residual=residual)
    for name, parameter in fusion.mlps.named_parameters():
        nn.init.zeros_(parameter) if name.endswith("weight") else nn.init.normal_(parameter)
    first, second = levels_of([[8], [12]])
    biases = [b for name, b in fusion.mlps.named_parameters() if name.endswith("2.bias")]
    assert len(biases) == 2
    merged = fusion.merges[1]((second,))
    expected = merged + biases[0] + biases[1] if residual else biases[1].expand(2, 5, 12)
    assert_close(fusion((first, second))[..., 8:], expected)


@pytest.mark.parametrize("scale", ["free", "softmax"])
def test_passes_the_kind_of_scale_on_to_every_branch(scale: Scale) -> None:
    fusion = COMMFusion([[8, 8], [12, 12, 12]], scale=scale)
    assert [getattr(merge, "scale", None) for merge in fusion.merges] == [scale, scale]


def test_has_comms_sizes() -> None:
    with torch.device("meta"):
        fusion = COMMFusion([[1024] * 24, [1024] * 6])
    matrices = {name: w for name, w in fusion.named_parameters() if w.ndim == 2}
    counts = {
        part: sum(w.numel() for name, w in matrices.items() if name.startswith(part))
        for part in ("merges.0.", "merges.1.", "mlps.")
    }
    assert counts == {
        "merges.0.": 24 * 1024**2,  # 25.2M
        "merges.1.": 6 * 1024**2,  # 6.3M
        "mlps.": 2 * 2 * 4 * 1024**2,  # two MLPs of two layers of ratio 4: 16.8M
    }
    assert fusion.out_dim == 2048


@pytest.mark.parametrize(
    ("in_dims", "mlp_encoders", "message"),
    [
        ([[8]], (1,), r"from -1 to 0, the model has 1, got 1. Give mlp_encoders=\[0\] .* or \[\]"),
        ([[8], [8]], [0, 2], r"from -2 to 1, the model has 2, got 2. Give mlp_encoders=\[0, 1\]"),
        ([[8], [8]], [-3], r"from -2 to 1, the model has 2, got -3. Give mlp_encoders=\[0, 1\]"),
    ],
)
def test_refuses_an_encoder_that_is_not_there(
    in_dims: InDims, mlp_encoders: Sequence[int], message: str
) -> None:
    with pytest.raises(ValueError, match=f"COMMFusion: mlp_encoders must name encoders {message}"):
        COMMFusion(in_dims, mlp_encoders=mlp_encoders)


def test_the_default_needs_a_second_encoder() -> None:
    with pytest.raises(ValueError, match=r"got 1. Give mlp_encoders=\[0\] for MLPs on every"):
        COMMFusion([[8, 8]])


def test_refuses_no_mlps() -> None:
    with pytest.raises(ValueError, match=r"mlp_depth must be at least 1, got 0. Give .*=\[\]"):
        COMMFusion([[8], [8]], mlp_depth=0)


@pytest.mark.parametrize("ratio", [0, 0.1, -4.0, math.nan])
def test_refuses_mlps_without_units(ratio: float) -> None:
    with pytest.raises(ValueError, match=f"one unit, got {ratio} for a width of 8. Give a larger"):
        COMMFusion([[8], [8]], mlp_ratio=ratio)
