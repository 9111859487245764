import torch
from torch.testing import assert_close

from lit_vlm.connectors import LinearConnector
from lit_vlm.testing import check_connector


def test_contract() -> None:
    check_connector(LinearConnector(in_dim=8, out_dim=12), num_patches=6)


def test_multiplies_each_token_by_one_matrix() -> None:
    connector = LinearConnector(in_dim=2, out_dim=1)
    with torch.no_grad():
        connector.linear.weight.copy_(torch.tensor([[2.0, -1.0]]))
        connector.linear.bias.fill_(0.5)
    tokens = torch.tensor([[[1.0, 3.0], [4.0, 0.0]]])
    assert_close(connector(tokens), torch.tensor([[[2 * 1 - 3 + 0.5], [2 * 4 - 0 + 0.5]]]))
