import pytest
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.connectors import Connector
from lit_vlm.testing import check_connector


class Halving(Connector):
    """Average each two neighbouring tokens; ``leak`` lets samples of a batch see each other."""

    def __init__(self, in_dim: int, out_dim: int, leak: bool = False) -> None:
        super().__init__(in_dim, out_dim)
        self.layer = nn.Linear(in_dim, out_dim)
        self.leak = leak

    def num_tokens(self, num_patches: int) -> int:
        return num_patches // 2

    def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B M D_out"]:
        pairs = reduce(tokens, "b (m two) d -> b m d", "mean", two=2)
        if self.leak:
            pairs = pairs + tokens.mean()
        return self.layer(pairs)


def test_a_users_connector_passes_the_contract() -> None:
    check_connector(Halving(8, 12), num_patches=6)


def test_the_contract_finds_a_leak_between_samples() -> None:
    with pytest.raises(AssertionError, match="a sample's output depends on its batch"):
        check_connector(Halving(8, 12, leak=True), num_patches=6)


def test_the_contract_finds_a_count_that_is_not_kept() -> None:
    connector = Halving(8, 12)
    connector.num_tokens = lambda num_patches: num_patches  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=r"expected shape \(3, 6, 12\), got \(3, 3, 12\)"):
        check_connector(connector, num_patches=6)


def test_the_contract_finds_tokens_cut_from_the_graph() -> None:
    class Cut(Halving):
        def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B M D_out"]:
            return super().forward(tokens.detach())

    with pytest.raises(AssertionError, match="no gradient reaches the vision tokens"):
        check_connector(Cut(8, 12), num_patches=6)


def test_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Connector(8, 12)  # type: ignore[abstract]
