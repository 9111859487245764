from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrizations import weight_norm
from torch.testing import assert_close

from lit_vlm.pretraining.distillation_head import DistillationHead


def make() -> DistillationHead:
    torch.manual_seed(0)
    return DistillationHead(in_dim=6, num_prototypes=9, hidden_dim=8, bottleneck_dim=4)


def reference(head: DistillationHead, features: Tensor) -> Tensor:
    # https://github.com/facebookresearch/dinov2/blob/main/dinov2/layers/dino_head.py
    last_layer: Any = weight_norm(nn.Linear(4, 9, bias=False))
    last_layer.parametrizations.weight.original0.data = head.prototypes.scale.data[:, None]
    last_layer.parametrizations.weight.original1.data = head.prototypes.directions.data
    return last_layer(normalize(head.mlp(features), dim=-1, p=2, eps=1e-12))


def test_equals_metas_code() -> None:
    head, features = make(), torch.randn(3, 6)
    assert_close(head(features), reference(head, features))
    head.prototypes.scale.data.uniform_(0.5, 2)
    assert_close(head(features), reference(head, features))


def test_scores_are_cosines_at_first() -> None:
    assert make()(100 * torch.randn(50, 6)).abs().max() <= 1


def test_works_in_float32_under_autocast() -> None:
    head, features = make(), torch.randn(3, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(head(features), head(features.float()))
        assert head(features).dtype == torch.float32
