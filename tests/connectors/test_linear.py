import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lit_vlm.connectors import LinearConnector
from lit_vlm.testing import check_connector


@pytest.mark.parametrize("norm", [False, True])
def test_contract(norm: bool) -> None:
    check_connector(LinearConnector(in_dim=8, out_dim=12, norm=norm), num_patches=6)


def test_multiplies_each_token_by_one_matrix() -> None:
    connector = LinearConnector(in_dim=2, out_dim=1)
    with torch.no_grad():
        connector.linear.weight.copy_(torch.tensor([[2.0, -1.0]]))
        connector.linear.bias.fill_(0.5)
    tokens = torch.tensor([[[1.0, 3.0], [4.0, 0.0]]])
    assert_close(connector(tokens), torch.tensor([[[2 * 1 - 3 + 0.5], [2 * 4 - 0 + 0.5]]]))


def test_with_a_norm_it_is_deepspeed_visualchats_baseline() -> None:
    # microsoft/DeepSpeedExamples, applications/DeepSpeed-VisualChat/utils/model/vis_proj.py
    baseline = nn.Sequential(nn.Linear(8, 12), nn.LayerNorm(12, eps=1e-12))
    for parameter in baseline.parameters():
        nn.init.normal_(parameter)
    connector = LinearConnector(in_dim=8, out_dim=12, norm=True)
    connector.linear.load_state_dict(baseline[0].state_dict())
    connector.norm.load_state_dict(baseline[1].state_dict())
    tokens = torch.randn(2, 6, 8)
    assert torch.equal(connector(tokens), baseline(tokens))
    assert torch.equal(connector(1e-4 * tokens), baseline(1e-4 * tokens)), "the norm's epsilon"


def test_without_a_norm_it_has_the_tensors_of_a_linear_layer_alone() -> None:
    assert set(LinearConnector(8, 12).state_dict()) == {"linear.weight", "linear.bias"}
