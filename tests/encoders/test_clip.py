from typing import Any

import pytest
import torch
from lightning.pytorch.cli import instantiate_module
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import Tensor
from torch.testing import assert_close

from lit_vlm.encoders import CLIPEncoder
from lit_vlm.testing import check_encoder

SIZES: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 8}


def encoder(side: int = 32, **options: Any) -> CLIPEncoder:
    torch.manual_seed(0)
    return CLIPEncoder(SIZES, image_size=side, **options).eval()


def some_images(side: int = 32) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)


def test_positions_are_made_at_the_inputs_size_unless_config_says_otherwise() -> None:
    table = encoder().network.embeddings.position_embedding.weight
    assert table.shape == (1 + 16, 32)
    other = CLIPEncoder({**SIZES, "image_size": 48}, image_size=32)
    assert other.grid == (4, 4)
    assert other.network.embeddings.position_embedding.weight.shape == (1 + 36, 32)


def test_the_size_is_the_networks_own_if_none_is_asked_for() -> None:
    network = CLIPEncoder({**SIZES, "image_size": 48})
    assert (network.image_size, network.grid) == ((48, 48), (6, 6))
    default = CLIPEncoder({**SIZES, "patch_size": 32})
    assert (default.image_size, default.grid) == ((224, 224), (7, 7))


def test_normalises_as_openai_does() -> None:
    network = encoder()
    assert network.mean.flatten().tolist() == pytest.approx(OPENAI_CLIP_MEAN)
    assert network.std.flatten().tolist() == pytest.approx(OPENAI_CLIP_STD)


def test_patches_do_not_see_a_class_token_that_is_dropped() -> None:
    """Without the token, the patches are what they are with one that attention cannot reach."""
    images = some_images()
    without = encoder(layers=[0, 1, -1], cls_token=False)
    names = {name for name, _ in without.named_parameters()}
    assert "network.embeddings.class_embedding" not in names
    assert without.network.embeddings.position_embedding.weight.shape == (16, 32)
    check_encoder(without)

    whole = encoder(layers=[0, 1, -1])
    assert len(whole.network.embeddings.position_embedding.weight) == 17
    with torch.no_grad():
        seen, unseen = whole(images).levels, without(images).levels
        tokens = whole.embed(whole.preprocess(images))[:, 1:]
        expected = [tokens]
        for block in whole.blocks:
            tokens = block(tokens, None)
            expected.append(tokens)
    assert torch.equal(seen[0], unseen[0])
    assert not torch.allclose(seen[1], unseen[1], atol=1e-4)
    assert_close(unseen[1], expected[1])
    assert_close(unseen[2], expected[3])


def test_an_encoder_without_the_class_token_is_rebuilt() -> None:
    network = encoder(48, layers=[-1], cls_token=False)
    record = network.rebuild_config()["init_args"]
    again = instantiate_module(CLIPEncoder, record).eval()
    again.load_state_dict(network.state_dict())
    images = some_images(48)
    with torch.no_grad():
        assert torch.equal(again(images).levels[0], network(images).levels[0])


def test_refuses_to_pool_without_a_class_token() -> None:
    message = "CLIPEncoder: cls_token must be kept for pool, got cls_token=False and pool=True"
    with pytest.raises(ValueError, match=message):
        encoder(cls_token=False, pool=True)


def test_qwen_vls_tower_has_its_shapes() -> None:
    """Qwen-VL: OpenCLIP's ViT-bigG-14 at 448 px, its 256 positions interpolated to 1024."""
    sizes = {
        "embed_dim": 1664,
        "depth": 48,
        "num_heads": 16,
        "mlp_ratio": 4.9231,
        "patch_size": 14,
        "image_size": 224,
        "hidden_act": "gelu",
    }
    with torch.device("meta"):
        network: Any = CLIPEncoder(sizes, layers=[-1], image_size=448, cls_token=False)
    assert network.grid == (32, 32)
    assert network.dims == (1664,)
    assert network.blocks[0].mlp.fc1.weight.shape == (8192, 1664)
    assert network.network.embeddings.position_embedding.weight.shape == (256, 1664)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(1.84e9, rel=0.01)
    features = network(torch.zeros(1, 3, 448, 448, device="meta", dtype=torch.uint8))
    assert features.levels[0].shape == (1, 1024, 1664)
