from typing import Literal, cast

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear
from torch.testing import assert_close

from lit_vlm.fusions import LLNLayerscale
from lit_vlm.testing import check_fusion

InDims = list[list[int]]
Scale = Literal["free", "softmax"]
SCALES = pytest.mark.parametrize("scale", ["free", "softmax"])


def random_weights(fusion: LLNLayerscale) -> LLNLayerscale:
    for parameter in fusion.parameters():  # initial norms are 1 and 0: hide no mistake
        nn.init.normal_(parameter)
    return fusion


def lln(fusion: LLNLayerscale, index: int, level: Tensor) -> Tensor:
    """The formula for one level, from the fusion's weights."""
    state = fusion.state_dict()
    norm, project = f"projections.{index}.0", f"projections.{index}.1"
    normed = layer_norm(
        level, level.shape[-1:], state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-5
    )
    return linear(normed, state[f"{project}.weight"], state[f"{project}.bias"])


@SCALES
@pytest.mark.parametrize("out_dim", [None, 10])
@pytest.mark.parametrize("in_dims", [[[8]], [[8, 8]], [[8, 12], [4]]], ids=str)
def test_contract(in_dims: InDims, out_dim: int | None, scale: Scale) -> None:
    fusion = LLNLayerscale(in_dims, out_dim=out_dim, scale=scale)
    check_fusion(fusion, num_patches=6)
    assert fusion.out_dim == (out_dim or 8)


def test_normalises_projects_scales_and_sums() -> None:
    fusion = LLNLayerscale([[2, 2]], out_dim=1)
    with torch.no_grad():
        fusion.scales.copy_(torch.tensor([2.0, -1.0]))
        for index, weight in enumerate((3.0, 5.0)):
            project = fusion.projections.get_submodule(f"{index}.1")
            project.get_parameter("weight").copy_(torch.tensor([[weight, 0.0]]))
            project.get_parameter("bias").fill_(0.5)
    levels = (torch.tensor([[[10.0, 30.0]]]), torch.tensor([[[400.0, 0.0]]]))
    # LayerNorm of two numbers is -1, 1 or 1, -1: 2 * (-3 + 0.5) - 1 * (5 + 0.5)
    assert_close(fusion(levels), torch.tensor([[[-10.5]]]))


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_with_one_scale_the_output_is_that_levels_projection(kept: int) -> None:
    fusion = random_weights(LLNLayerscale([[8, 12], [4]], out_dim=6))
    nn.init.zeros_(fusion.scales)
    with torch.no_grad():
        fusion.scales[kept] = 1.0
    levels = tuple(torch.randn(2, 5, dim) for dim in fusion.level_dims)
    assert_close(fusion(levels), lln(fusion, kept, levels[kept]), atol=0, rtol=1e-6)


@SCALES
def test_starts_as_the_mean_of_the_projections(scale: Scale) -> None:
    fusion = LLNLayerscale([[8, 8, 8, 8]], scale=scale)
    levels = tuple(torch.randn(2, 5, 8) for _ in range(4))
    projected = [lln(fusion, index, level) for index, level in enumerate(levels)]
    assert_close(fusion.level_weights, torch.full((4,), 0.25))
    assert_close(fusion(levels), torch.stack(projected).mean(0))


def test_free_scales_are_taken_as_they_are_and_softmax_scales_sum_to_1() -> None:
    values = torch.tensor([3.0, -1.0, 0.0])
    levels = tuple(torch.randn(2, 5, 8) for _ in range(3))
    for scale, weights in (("free", values), ("softmax", values.softmax(0))):
        fusion = random_weights(LLNLayerscale([[8, 8, 8]], scale=cast(Scale, scale)))
        with torch.no_grad():
            fusion.scales.copy_(values)
        terms = [w * lln(fusion, i, levels[i]) for i, w in enumerate(weights)]
        assert_close(fusion(levels), torch.stack(terms).sum(0))


def test_a_levels_magnitude_does_not_matter() -> None:
    fusion = random_weights(LLNLayerscale([[8, 8]]))
    shallow, deep = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    assert_close(fusion((shallow, 50 * deep)), fusion((shallow, deep)), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("layers", "expected"), [(24, 25_165_824), (6, 6_291_456)])
def test_comms_linears_have_25_and_6_million_weights(layers: int, expected: int) -> None:
    with torch.device("meta"):
        fusion = LLNLayerscale([[1024] * layers])
    matrices = [weight for weight in fusion.parameters() if weight.ndim == 2]
    assert len(matrices) == layers
    assert sum(weight.numel() for weight in matrices) == layers * 1024**2 == expected


def test_scales_do_not_decay() -> None:
    assert LLNLayerscale([[8, 8]]).scales.ndim == 1, "the optimizer decays matrices only"


def test_refuses_an_unknown_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse it first
    with pytest.raises(ValueError, match="LLNLayerscale: scale .*, got 'sum'. Use 'free' for"):
        LLNLayerscale([[8]], scale=cast(Scale, "sum"))
