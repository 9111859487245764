"""Checks that every part passes: the library's own and its users'."""

import torch
from torch import nn
from torch.testing import assert_close

from lit_vlm.connectors import Connector
from lit_vlm.encoders import VisionEncoder
from lit_vlm.fusions import Fusion
from lit_vlm.language_models import IGNORED, LanguageModel
from lit_vlm.language_models.token_roles import TokenRoles


def check_encoder(encoder: VisionEncoder) -> None:
    """Assert the contract of ``VisionEncoder``: shapes, pixels, gradients, freezing.

    Args:
        encoder: any encoder; it is left frozen.
    """
    size = encoder.image_size
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    features = encoder(images)
    assert features.grid == encoder.grid, f"grid {features.grid} is not the promised {encoder.grid}"
    assert len(features.levels) == len(encoder.dims), "one width must be promised per level"
    for level, dim in zip(features.levels, encoder.dims, strict=True):
        expected = (2, encoder.num_tokens, dim)
        assert level.shape == expected, f"expected shape {expected}, got {tuple(level.shape)}"

    loss = sum(level.float().square().mean() for level in features.levels)
    if features.pooled is not None:
        loss = loss + features.pooled.float().square().mean()
    assert isinstance(loss, torch.Tensor)
    torch.autograd.backward(loss)
    _check_gradients(encoder)

    encoder.freeze()
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    frozen = encoder(images)
    as_float = encoder(images.float() / 255)
    for level, other in zip(frozen.levels, as_float.levels, strict=True):
        assert not level.requires_grad, "a frozen encoder must keep no graph"
        assert_close(level, other, msg="uint8 and float in [0, 1] must be the same picture")
    single = encoder(images[1:])
    for level, other in zip(frozen.levels, single.levels, strict=True):
        assert_close(level[1:], other, msg="an image's features depend on its batch")
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} of a frozen encoder moved"


def check_fusion(fusion: Fusion, num_patches: int) -> None:
    """Assert the contract of ``Fusion`` on random levels: shape, gradients, independence.

    Args:
        fusion: any fusion.
        num_patches: a number of tokens per level that it accepts.
    """
    levels = tuple(
        torch.randn(3, num_patches, dim, requires_grad=True) for dim in fusion.level_dims
    )
    fused = fusion(levels)
    expected = (3, fusion.num_tokens(num_patches), fusion.out_dim)
    assert fused.shape == expected, f"expected shape {expected}, got {tuple(fused.shape)}"
    fused.square().mean().backward()
    _check_gradients(fusion)
    assert any(level.grad is not None for level in levels), "no gradient reaches any level"
    single = fusion(tuple(level[1:2] for level in levels))
    assert_close(single, fused[1:2], msg="a sample's output depends on its batch")


def check_connector(connector: Connector, num_patches: int) -> None:
    """Assert the contract of ``Connector`` on random tokens: shape, gradients, independence.

    Args:
        connector: any connector.
        num_patches: a number of vision tokens that it accepts.
    """
    tokens = torch.randn(3, num_patches, connector.in_dim, requires_grad=True)
    output = connector(tokens)
    expected = (3, connector.num_tokens(num_patches), connector.out_dim)
    assert output.shape == expected, f"expected shape {expected}, got {tuple(output.shape)}"
    output.square().mean().backward()
    _check_gradients(connector)
    assert tokens.grad is not None, "no gradient reaches the vision tokens"
    assert_close(connector(tokens[1:2]), output[1:2], msg="a sample's output depends on its batch")


def check_language_model(model: LanguageModel, num_tokens: int = 6) -> None:
    """Assert the contract of ``LanguageModel``: loss, padding, gradients, generation.

    Args:
        model: any language model; it is left in evaluation mode.
        num_tokens: length of the random texts, at least 4.
    """
    model.eval()
    ids = torch.randint(3, 60, (2, num_tokens))
    labels = ids.clone()
    labels[:, :2] = IGNORED
    seen = torch.ones_like(ids, dtype=torch.bool)
    embeddings = model.embed(ids)
    assert embeddings.shape == (2, num_tokens, model.dim), "embeddings must be (B, T, dim)"

    loss = model(embeddings, seen, labels)
    assert int(loss.num_tokens) == 2 * (num_tokens - 2), "each supervised token counts once"
    logits = model.logits(embeddings, seen)[:, 1:-1].flatten(0, 1).float()
    by_hand = nn.functional.cross_entropy(logits, ids[:, 2:].flatten(), reduction="sum")
    assert_close(loss.total, by_hand, msg="the loss must be the summed cross-entropy")
    loss.total.backward()
    _check_gradients(model)
    nothing = torch.zeros_like(seen)
    unmoved = model(embeddings, seen, labels, roles=TokenRoles(nothing, nothing))
    assert_close(unmoved.total, loss.total, msg="roles of plain text must not count")

    pad = torch.zeros(2, 3, dtype=torch.bool)
    filler = torch.full((2, 3), IGNORED)
    padded = torch.cat([embeddings, torch.randn(2, 3, model.dim)], 1)
    with_pad = model(padded, torch.cat([seen, pad], 1), torch.cat([labels, filler], 1))
    assert_close(with_pad.total, loss.total, msg="padding on the right must not count")

    stop = [1]
    new = model.generate(embeddings, seen, stop, max_new_tokens=4)
    left = torch.cat([torch.randn(2, 3, model.dim), embeddings], 1)
    same = model.generate(left, torch.cat([pad, seen], 1), stop, max_new_tokens=4)
    assert torch.equal(new, same), "padding on the left must not change what is generated"
    first = model.logits(embeddings, seen)[:, -1].argmax(-1)
    assert torch.equal(new[:, 0], first), "greedy decoding must take the likeliest token"


def _check_gradients(module: nn.Module) -> None:
    trainable = {n: p for n, p in module.named_parameters() if p.requires_grad}
    idle = [name for name, weight in trainable.items() if weight.grad is None]
    assert not idle, f"no gradient reaches {idle}"
