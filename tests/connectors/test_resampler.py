import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lit_vlm.connectors import CrossAttentionResampler
from lit_vlm.connectors.perceiver import PerceiverLayer
from lit_vlm.testing import check_connector


@pytest.mark.parametrize("num_patches", [1, 4, 9, 16])
@pytest.mark.parametrize("num_queries", [1, 4, 9])
@pytest.mark.parametrize("depth", [1, 2])
def test_contract(num_patches: int, num_queries: int, depth: int) -> None:
    connector = CrossAttentionResampler(
        in_dim=8, out_dim=12, num_queries=num_queries, num_heads=3, depth=depth
    )
    check_connector(connector, num_patches)


def test_attends_evenly_where_all_keys_are_alike() -> None:
    connector = CrossAttentionResampler(in_dim=4, out_dim=4, num_queries=4)
    with torch.no_grad():
        eye = torch.eye(4)
        connector.attention.in_proj_weight.copy_(torch.cat([eye, 0 * eye, eye]))  # no keys
        for linear in (connector.project_in, connector.attention.out_proj, connector.project_out):
            linear.weight.copy_(eye)
        connector.norm_out = nn.LayerNorm(4, elementwise_affine=False, eps=1e12)  # * 1e-6
    # Normed tokens are (1, -1, 1, -1) twice and (1, 1, -1, -1) twice: their mean is (1, 0, 0, -1).
    pair = torch.tensor([[3.0, -3.0, 3.0, -3.0], [5.0, 5.0, -5.0, -5.0]])
    output = connector(pair.repeat(2, 1).unsqueeze(0))
    expected = torch.tensor([1.0, 0.0, 0.0, -1.0]).expand(1, 4, 4)
    assert_close(output * 1e6, expected, atol=1e-5, rtol=0)


def test_positions_are_added_to_the_keys_and_not_to_the_values() -> None:
    connector = CrossAttentionResampler(in_dim=4, out_dim=4, num_queries=1)
    seen = {}

    def keep(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        seen["keys"], seen["values"] = given[1:]

    connector.attention.register_forward_pre_hook(keep)
    connector.positions.fill_(7.0)
    connector(torch.randn(1, 9, 4))
    assert_close(seen["keys"] - seen["values"], torch.full((1, 9, 4), 7.0))


def test_depends_on_the_order_of_the_tokens() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(1, 9, 8)
    for depth in (1, 2):
        connector = CrossAttentionResampler(in_dim=8, out_dim=12, num_queries=4, depth=depth)
        flipped = connector(tokens.flip(1))
        assert (connector(tokens) - flipped).abs().max() > 1e-4


@pytest.mark.parametrize("num_patches", [256, 576, 1024])
def test_qwen_vls_sizes_at_any_resolution(num_patches: int) -> None:
    with torch.device("meta"):
        connector = CrossAttentionResampler(in_dim=1664, out_dim=4096)
        tokens = torch.empty(2, num_patches, 1664)
    assert connector.num_tokens(num_patches) == 256
    assert connector(tokens).shape == (2, 256, 4096)
    assert connector.attention.num_heads == 32


def test_has_as_many_parameters_as_qwen_vls() -> None:
    with torch.device("meta"):
        connector = CrossAttentionResampler(in_dim=1664, out_dim=4096)
    counts = {name: weight.numel() for name, weight in connector.named_parameters()}
    after = sum(counts.pop(name) for name in list(counts) if "_out." in name and "att" not in name)
    # Counted in huggingface.co/Qwen/Qwen-VL, visual.py: its Resampler, without the fixed table;
    # the norm and the projection after it belong to its VisionTransformer.
    width = 4096
    attention = 4 * width**2 + 4 * width
    assert sum(counts.values()) == 1664 * width + 2 * 2 * width + 256 * width + attention
    assert sum(counts.values()) == 75_005_952
    assert after == 2 * width + width**2


def test_positions_are_a_buffer_that_no_checkpoint_needs() -> None:
    connector = CrossAttentionResampler(in_dim=8, out_dim=12, num_queries=4)
    assert "positions" in dict(connector.named_buffers())
    assert "positions" not in connector.state_dict()
    assert "positions" not in dict(connector.named_parameters())


def test_starts_as_qwen_vl_does() -> None:
    torch.manual_seed(0)
    connector = CrossAttentionResampler(in_dim=64, out_dim=128, num_queries=16)
    assert 0.018 < connector.queries.std() < 0.022
    assert 0.018 < connector.project_in.weight.std() < 0.022
    assert 0.018 < connector.attention.out_proj.weight.std() < 0.022
    assert_close(connector.project_out.weight.std().item(), 128**-0.5, atol=0.003, rtol=0)


@pytest.mark.parametrize("depth", [2, 3])
def test_deeper_ones_are_made_of_perceiver_layers(depth: int) -> None:
    connector = CrossAttentionResampler(in_dim=8, out_dim=12, num_queries=4, depth=depth)
    assert [type(layer) for layer in connector.layers] == [PerceiverLayer] * depth
    assert not hasattr(connector, "attention")


@pytest.mark.parametrize("num_patches", [15, 17, 257])
def test_refuses_tokens_that_form_no_square(num_patches: int) -> None:
    connector = CrossAttentionResampler(in_dim=8, out_dim=12, num_queries=4)
    message = f"CrossAttentionResampler: the vision tokens .* square grid, got {num_patches} tokens"
    with pytest.raises(ValueError, match=message):
        connector.num_tokens(num_patches)
    with pytest.raises(ValueError, match=message):
        connector(torch.zeros(1, num_patches, 8))


@pytest.mark.parametrize(("number", "take"), [(200, "196 or 225"), (0, "1 or 4"), (-4, "1 or 4")])
def test_refuses_queries_that_form_no_square(number: int, take: str) -> None:
    message = f"CrossAttentionResampler: num_queries must .* got {number}. Take {take}"
    with pytest.raises(ValueError, match=message):
        CrossAttentionResampler(in_dim=8, out_dim=12, num_queries=number)


def test_refuses_a_width_that_positions_cannot_fill() -> None:
    message = "CrossAttentionResampler: out_dim must be a multiple of 4, .* got 10. Take"
    with pytest.raises(ValueError, match=message):
        CrossAttentionResampler(in_dim=8, out_dim=10)


def test_refuses_heads_that_do_not_divide_the_width() -> None:
    message = "CrossAttentionResampler: num_heads must divide the width 12, got 5. Leave it out"
    with pytest.raises(ValueError, match=message):
        CrossAttentionResampler(in_dim=8, out_dim=12, num_heads=5)


def test_refuses_no_layers() -> None:
    message = "CrossAttentionResampler: depth must be at least 1, got 0"
    with pytest.raises(ValueError, match=message):
        CrossAttentionResampler(in_dim=8, out_dim=12, depth=0)
