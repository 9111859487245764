import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from lit_vlm.fusions import TokenConcat
from lit_vlm.testing import check_fusion

InDims = list[list[int]]


def mmvp(clip_features: Tensor, dino_features: Tensor) -> Tensor:
    # https://github.com/tsb0601/MMVP, LLaVA/llava/model/llava_arch.py, for one image
    num_patches, clip_dim = clip_features.shape
    merged_features = torch.empty(2 * num_patches, clip_dim)
    merged_features[0::2] = clip_features
    merged_features[1::2] = dino_features
    return merged_features


@pytest.mark.parametrize("interleave", [False, True])
@pytest.mark.parametrize(
    ("in_dims", "out_dim"),
    [([[8]], None), ([[8, 8], [8]], None), ([[8], [12]], 6), ([[8, 8]], 6), ([[8]], 8)],
)
def test_contract(in_dims: InDims, out_dim: int | None, interleave: bool) -> None:
    check_fusion(TokenConcat(in_dims, interleave, out_dim), num_patches=6)


@pytest.mark.parametrize(
    ("interleave", "order"),
    [
        (False, [1.0, 2.0, 10.0, 20.0, 100.0, 200.0]),
        (True, [1.0, 10.0, 100.0, 2.0, 20.0, 200.0]),
    ],
)
def test_order_of_the_tokens(interleave: bool, order: list[float]) -> None:
    levels = tuple(torch.tensor([[[scale], [2 * scale]]]) for scale in (1.0, 10.0, 100.0))
    fusion = TokenConcat([[1], [1, 1]], interleave=interleave)
    assert fusion(levels).flatten().tolist() == order
    assert fusion.num_tokens(2) == 6


def test_interleaves_as_mmvp_does() -> None:
    clip, dino = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    expected = torch.stack([mmvp(a, b) for a, b in zip(clip, dino, strict=True)])
    assert torch.equal(TokenConcat([[8], [8]], interleave=True)((clip, dino)), expected)


def test_projects_each_level_by_a_layer_of_its_own() -> None:
    fusion = TokenConcat([[8], [12]], out_dim=6)
    first, second = torch.randn(2, 5, 8), torch.randn(2, 5, 12)
    projections = list(fusion.projections)
    assert [type(layer) for layer in projections] == [nn.Linear, nn.Linear]
    assert [tuple(w.shape) for w in fusion.parameters()] == [(6, 8), (6,), (6, 12), (6,)]
    expected = torch.cat([projections[0](first), projections[1](second)], dim=1)
    assert_close(fusion((first, second)), expected)


def test_has_no_parameters_without_a_width() -> None:
    assert list(TokenConcat([[8, 8]]).parameters()) == []


def test_refuses_unequal_widths_without_a_width() -> None:
    with pytest.raises(ValueError, match="TokenConcat: .* equal widths, got 8, 12. Give out_dim"):
        TokenConcat([[8], [12]])
