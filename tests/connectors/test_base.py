from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import reduce
from jaxtyping import Float
from lightning import Trainer
from lightning.pytorch.cli import LightningCLI
from torch import Tensor, nn

from lit_vlm import VisionLanguageModel
from lit_vlm.connectors import (
    Connector,
    CrossAttentionResampler,
    LinearConnector,
    MLPConnector,
    PixelShuffleConnector,
    PoolingConnector,
    QFormerConnector,
    TransformerConnector,
)
from lit_vlm.testing import check_connector

MakeModel = Callable[..., VisionLanguageModel]
MakeConnector = Callable[[int, int], Connector]

PRETRAINED = {"pretrained": None}
RESAMPLER = {"num_queries": 4, "num_heads": 2, "depth": 2, "project_out": True, **PRETRAINED}
BARE = {"depth": 1, "project_out": False}
QFORMER = {
    "num_queries": 3,
    "depth": 2,
    "width": 16,
    "num_heads": 2,
    "cross_attention_frequency": 2,
    "dropout": 0.0,
}
MLP = {"depth": 3, "activation": "silu", "width": [20, 6], **PRETRAINED}
TRANSFORMER = {"depth": 2, "num_heads": 2, "mlp_ratio": 2, "activation": "gelu"}
MADE: dict[str, tuple[Any, str, dict[str, Any], int]] = {
    # by case: a connector's class, its module, its free arguments, and what it makes of 4 tokens
    "linear": (LinearConnector, "linear", {"norm": True, **PRETRAINED}, 4),
    "mlp": (MLPConnector, "mlp", MLP, 4),
    "pixel_shuffle": (PixelShuffleConnector, "pixel_shuffle", {"scale": 2}, 1),
    "pooling": (PoolingConnector, "pooling", {"stride": 2, "depth": 2, "activation": "gelu"}, 1),
    "qformer": (QFormerConnector, "qformer", QFORMER, 3),
    "resampler": (CrossAttentionResampler, "resampler", {**RESAMPLER, "depth": 1}, 4),
    "resampler, deeper": (CrossAttentionResampler, "resampler", RESAMPLER, 4),
    "resampler, bare": (CrossAttentionResampler, "resampler", {**RESAMPLER, **BARE}, 4),
    "transformer": (TransformerConnector, "transformer", TRANSFORMER, 4),
}
CASES = pytest.mark.parametrize(
    ("connector_class", "module", "arguments", "count"), MADE.values(), ids=MADE
)


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


@CASES
def test_a_model_is_rebuilt_from_its_checkpoint(
    tiny_model: MakeModel,
    tmp_path: Path,
    connector_class: Any,
    module: str,
    arguments: dict[str, Any],
    count: int,
) -> None:
    model = tiny_model(connector=lambda i, o: connector_class(i, o, **arguments))
    assert model.processor.tokens_per_image == count
    record = model.rebuild_config()["init_args"]["connector"]
    path = f"lit_vlm.connectors.{module}.{connector_class.__name__}"
    assert record == {"class_path": path, "init_args": arguments}
    for parameter in model.connector.parameters():  # initial values would hide what was not saved
        nn.init.normal_(parameter)

    trainer = Trainer(
        accelerator="cpu", logger=False, enable_model_summary=False, enable_progress_bar=False
    )
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = VisionLanguageModel.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert type(again.connector) is connector_class
    assert again.rebuild_config() == model.rebuild_config()
    assert again.processor.tokens_per_image == model.processor.tokens_per_image
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.eval().see(images), model.eval().see(images))


@CASES
def test_a_config_names_the_free_arguments_only(
    tiny_model: MakeModel,
    connector_class: Any,
    module: str,
    arguments: dict[str, Any],
    count: int,
) -> None:
    config = tiny_model().init_config
    given = {"class_path": connector_class.__name__, "init_args": arguments}
    config["init_args"]["connector"] = given
    cli = LightningCLI(
        VisionLanguageModel,
        subclass_mode_model=True,
        run=False,
        args={"model": config, "trainer": {"logger": False}},
        save_config_callback=None,
        seed_everything_default=False,
    )
    assert type(cli.model.connector) is connector_class
    assert cli.model.init_config["init_args"]["connector"]["init_args"] == arguments


@CASES
def test_gradients_reach_every_parameter_and_every_token(
    connector_class: Any, module: str, arguments: dict[str, Any], count: int
) -> None:
    torch.manual_seed(0)
    connector = connector_class(8, 12, **arguments)
    tokens = torch.randn(2, 4, 8, requires_grad=True)
    output = connector(tokens)
    (output * torch.randn_like(output)).sum().backward()
    reached = {name: parameter.grad for name, parameter in connector.named_parameters()}
    assert tokens.grad is not None
    reached |= {f"token {k}": grad for k, grad in enumerate(tokens.grad.unbind(1))}
    idle = [name for name, grad in reached.items() if grad is None or grad.abs().max() < 1e-7]
    # A bias of the keys moves all the scores of a query alike, and so none of its weights.
    assert [name for name in idle if not name.endswith("key.bias")] == []


@CASES
@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_works_in_bfloat16(
    connector_class: Any, module: str, arguments: dict[str, Any], count: int, how: str
) -> None:
    torch.manual_seed(0)
    connector = connector_class(8, 12, **arguments)
    tokens = torch.randn(2, 16, 8)
    expected = connector(tokens).detach()
    if how == "weights":
        connector, tokens = connector.bfloat16(), tokens.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        output = connector(tokens)
    assert how == "autocast" or output.dtype == torch.bfloat16
    spread = expected.std()
    assert (output.float() - expected).abs().max() < 0.2 * spread
    output.float().square().sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in connector.parameters())


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
