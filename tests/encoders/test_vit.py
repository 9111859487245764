"""What CLIPEncoder, SigLIPEncoder and DINOv2Encoder do alike."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from lightning.pytorch.cli import instantiate_module
from torch import Tensor, nn
from torch.testing import assert_close

from lit_vlm.encoders import CLIPEncoder, DINOv2Encoder, SigLIPEncoder
from lit_vlm.encoders.vit import ViTEncoder
from lit_vlm.testing import check_encoder

PATCH, DEPTH = 14, 3
SIZES: dict[str, Any] = {"embed_dim": 32, "depth": DEPTH, "num_heads": 2, "patch_size": PATCH}
Make = Callable[..., ViTEncoder]


def clip(**options: Any) -> ViTEncoder:
    return CLIPEncoder({**SIZES, **options.pop("more", {})}, **options)


def clip_without_class_token(**options: Any) -> ViTEncoder:
    return clip(cls_token=False, **options)


def siglip(**options: Any) -> ViTEncoder:
    return SigLIPEncoder({**SIZES, **options.pop("more", {})}, **options)


def dinov2(**options: Any) -> ViTEncoder:
    return DINOv2Encoder(config={**SIZES, **options.pop("more", {})}, **options)


def dinov2_with_registers(**options: Any) -> ViTEncoder:
    return dinov2(entry_point="dinov2_vits14_reg", **options)


def dinov2_by_timm(**options: Any) -> ViTEncoder:
    return dinov2(entry_point="dinov2_vitb14_reg", port="timm", **options)


ALL = [clip, clip_without_class_token, siglip, dinov2, dinov2_with_registers, dinov2_by_timm]
FAMILIES = pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
POOLING = pytest.mark.parametrize(
    "make",
    [make for make in ALL if make is not clip_without_class_token],
    ids=lambda make: make.__name__,
)


def encoder(make: Make, layers: Sequence[int] = (-2,), side: int = 28, **options: Any) -> Any:
    torch.manual_seed(0)
    made = make(layers=layers, image_size=side, **options)
    with torch.no_grad():
        for parameter in made.parameters():  # initial norms are 1 and biases 0: hide no mistake
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return made


def some_images(side: int = 28, count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


def backward(network: ViTEncoder, images: Tensor) -> None:
    features = network(images)
    loss = sum((level.float().square().mean() for level in features.levels), torch.zeros(()))
    if features.pooled is not None:
        loss = loss + features.pooled.float().square().mean()
    torch.autograd.backward(loss)


@FAMILIES
@pytest.mark.parametrize("layers", [[-2], [0], [-1], [3, 0, -2, 1]], ids=str)
def test_contract(make: Make, layers: list[int]) -> None:
    check_encoder(encoder(make, layers))


@FAMILIES
@pytest.mark.parametrize("layers", [[-2], [0, -1]], ids=str)
def test_contract_with_the_final_norm(make: Make, layers: list[int]) -> None:
    check_encoder(encoder(make, layers, norm=True))


@POOLING
@pytest.mark.parametrize("norm", [False, True])
def test_contract_with_the_pooled_output(make: Make, norm: bool) -> None:
    network = encoder(make, [-2], norm=norm, pool=True)
    check_encoder(network)
    pooled = network(some_images()).pooled
    assert pooled.shape == (2, 32)


@FAMILIES
@pytest.mark.parametrize("learned_at", [28, 70])
def test_contract_at_a_size_other_than_that_of_the_positions(make: Make, learned_at: int) -> None:
    network = encoder(make, [-1], 42, more={"image_size": learned_at})
    assert network.grid == (3, 3)
    check_encoder(network)


@FAMILIES
def test_levels_come_in_the_order_asked_for(make: Make) -> None:
    images = some_images()
    forwards, backwards = encoder(make, [0, 1, -1]), encoder(make, [-1, 1, 0, 1])
    with torch.no_grad():
        zero, one, last = forwards(images).levels
        levels = backwards(images).levels
    assert not torch.equal(one, last)
    for level, expected in zip(levels, (last, one, zero, one), strict=True):
        assert torch.equal(level, expected)


@FAMILIES
def test_tokens_are_row_major_without_prefix(make: Make) -> None:
    network = encoder(make, [0])
    images = some_images()
    with torch.no_grad():
        (before,) = network(images).levels
        images[:, :, :PATCH, PATCH:] ^= 255  # the upper right patch
        (after,) = network(images).levels
    assert (before != after).any(-1).tolist() == [[False, True, False, False]] * 2


@FAMILIES
def test_norm_is_the_networks_final_norm_on_every_level(make: Make) -> None:
    plain = encoder(make, [0, 1, -1])
    normed = encoder(make, [0, 1, -1], norm=True)
    norm = normed.network.get_submodule(normed._final_norm)
    normed.load_state_dict(plain.state_dict(), strict=False)
    images = some_images()
    with torch.no_grad():
        levels, expected = normed(images).levels, plain(images).levels
        for level, raw in zip(levels, expected, strict=True):
            by_hand = nn.functional.layer_norm(raw, (32,), norm.weight, norm.bias, norm.eps)
            assert_close(level, by_hand)
            assert not torch.allclose(level, raw, atol=1e-2)


@FAMILIES
@pytest.mark.parametrize(
    ("layers", "blocks"), [([-1], 3), ([-2], 2), ([0], 0), ([1, 0], 1)], ids=str
)
def test_the_tower_ends_at_the_deepest_layer_read(
    make: Make, layers: list[int], blocks: int
) -> None:
    network = encoder(make, layers)
    assert len(network.blocks) == blocks
    assert isinstance(network.network.get_submodule(network._final_norm), nn.Identity)
    names = {name for name, _ in network.named_parameters()}
    assert not any("head" in name or "mask_token" in name for name in names)


@POOLING
def test_the_whole_tower_is_kept_to_pool(make: Make) -> None:
    network = encoder(make, [0], pool=True)
    assert len(network.blocks) == DEPTH
    shallow, deep = encoder(make, [0], pool=True), encoder(make, [0, -1], pool=True)
    images = some_images()
    with torch.no_grad():
        assert torch.equal(shallow(images).pooled, deep(images).pooled)


@FAMILIES
@pytest.mark.parametrize("norm", [False, True])
def test_nothing_that_trains_is_idle_when_layer_minus_2_is_read(make: Make, norm: bool) -> None:
    network = encoder(make, [-2], norm=norm)
    backward(network, some_images())
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@FAMILIES
def test_a_frozen_encoder_is_left_alone_by_training(make: Make) -> None:
    eye = encoder(make, [-2, 0])
    eye.freeze()
    before = {name: value.clone() for name, value in eye.state_dict().items()}
    head = nn.Linear(eye.dims[0], 1)
    model = nn.ModuleDict({"encoder": eye, "head": head})
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    weight = head.weight.detach().clone()
    for _ in range(20):
        model.train()
        optimizer.zero_grad()
        torch.autograd.backward(head(eye(some_images()).levels[0]).square().mean())
        optimizer.step()
    assert not torch.equal(head.weight, weight)
    after = eye.state_dict()
    assert after.keys() == before.keys()
    for name, value in after.items():
        assert torch.equal(value, before[name]), name


@FAMILIES
def test_gradient_checkpointing_gives_equal_outputs_and_gradients(make: Make) -> None:
    plain, saving = encoder(make), encoder(make, gradient_checkpointing=True)
    images = some_images()
    runs = [0] * len(saving.blocks)
    for index, block in enumerate(saving.blocks):
        # The norm is inside the block, so that a recomputed block is counted too.
        norm = next(module for module in block.modules() if isinstance(module, nn.LayerNorm))
        norm.register_forward_pre_hook(lambda *_, index=index: _count(runs, index))
    assert_close(saving(images).levels[0], plain(images).levels[0], atol=0, rtol=0)
    assert runs == [1, 1]
    for network in (plain, saving):
        backward(network, images)
    assert runs == [3, 3], "a block must be run again in the backward pass"
    pairs = zip(plain.named_parameters(), saving.named_parameters(), strict=True)
    for (name, one), (_, other) in pairs:
        assert_close(other.grad, one.grad, msg=name)


def _count(runs: list[int], index: int) -> None:
    runs[index] += 1


@FAMILIES
def test_blocks_are_recomputed_only_to_train(make: Make) -> None:
    network = encoder(make, gradient_checkpointing=True)
    network.eval()
    runs = [0]
    network.blocks[0].register_forward_pre_hook(lambda *_: _count(runs, 0))
    backward(network, some_images())
    assert runs == [1]


@FAMILIES
@pytest.mark.parametrize("side", [28, 42])
def test_runs_in_bfloat16(make: Make, side: int) -> None:
    options: dict[str, Any] = {"more": {"image_size": 28}, "norm": True}
    network = encoder(make, [-2, -1], side, **options)
    images = some_images(side)
    with torch.no_grad():
        exact = network(images).levels
    backward(network.to(torch.bfloat16), images)
    levels = network(images).levels
    for level, expected in zip(levels, exact, strict=True):
        assert level.dtype == torch.bfloat16
        assert_close(level.float(), expected, atol=0.3, rtol=0.3)
    for name, parameter in network.named_parameters():
        assert parameter.dtype == torch.bfloat16
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@FAMILIES
def test_is_rebuilt_from_its_record(make: Make) -> None:
    options: dict[str, Any] = {"more": {"image_size": 28, "mlp_ratio": 2}, "norm": True}
    network = encoder(make, [-2, 0], 42, **options, gradient_checkpointing=True)
    record = network.rebuild_config()
    again = instantiate_module(type(network), record["init_args"])
    again.load_state_dict(network.state_dict())
    assert again.rebuild_config() == record
    assert (again.grid, again.dims) == (network.grid, network.dims)
    assert (again.gradient_checkpointing, again.norm, again.pool) == (True, True, False)
    images = some_images(60)
    with torch.no_grad():
        pairs = zip(again.eval()(images).levels, network.eval()(images).levels, strict=True)
        for level, expected in pairs:
            assert torch.equal(level, expected)


@FAMILIES
def test_own_statistics_are_used_and_kept(make: Make) -> None:
    mean, std = (0.25, 0.5, 0.75), (0.5, 0.25, 0.125)
    network = encoder(make, mean=mean, std=std)
    assert network.mean.flatten().tolist() == list(mean)
    assert network.std.flatten().tolist() == list(std)
    record = network.rebuild_config()["init_args"]
    assert (record["mean"], record["std"]) == (list(mean), list(std))


@FAMILIES
@pytest.mark.parametrize(("side", "near"), [(30, "28 or 42"), (13, "14 or 28")])
def test_refuses_a_size_that_patches_do_not_tile(make: Make, side: int, near: str) -> None:
    message = rf"multiple of the patch size 14, got {side}. Take {near}\."
    with pytest.raises(ValueError, match=message):
        make(layers=[-1], image_size=side, more={"image_size": 28})


@FAMILIES
@pytest.mark.parametrize("layer", [4, -5])
def test_refuses_a_layer_that_does_not_exist(make: Make, layer: int) -> None:
    message = rf"Encoder: layers must be 0 to 3 \(or -1 for 3 and down\), got {layer}\."
    with pytest.raises(ValueError, match=message):
        encoder(make, [0, layer])


@FAMILIES
def test_refuses_no_layers(make: Make) -> None:
    with pytest.raises(ValueError, match="layers must name at least one layer, got none"):
        encoder(make, [])


@pytest.mark.slow  # imports and compiles in a process without the hook that checks shapes
def test_compiles_into_one_graph() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _COMPILE], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.split() == [
        f"{name}{training}"
        for name in ("CLIP", "SigLIP", "transformers", "timm", "ensemble")
        for training in ("train", "eval")
    ]


_COMPILE = """
import torch
from torch.testing import assert_close
from lit_vlm.encoders import CLIPEncoder, DINOv2Encoder, EnsembleEncoder, SigLIPEncoder

sizes = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 14, "image_size": 28}
encoders = {
    "CLIP": CLIPEncoder(sizes, layers=[-2, 0], image_size=42),
    "SigLIP": SigLIPEncoder(sizes, image_size=42, norm=True, pool=True),
    "transformers": DINOv2Encoder(config=sizes, image_size=42, gradient_checkpointing=True),
    "timm": DINOv2Encoder("dinov2_vits14_reg", "timm", config=sizes, image_size=42),
}
pair = {"clip": CLIPEncoder(sizes, image_size=42), "dino": DINOv2Encoder(config=sizes)}
encoders["ensemble"] = EnsembleEncoder(pair)
images = torch.randint(0, 256, (2, 3, 50, 50), dtype=torch.uint8)
for name, encoder in encoders.items():
    for mode in ("train", "eval"):
        torch._dynamo.reset()
        getattr(encoder, mode)()
        # "eager" compiles nothing, yet breaks where the graph would
        compiled = torch.compile(encoder, backend="eager", fullgraph=True)
        for level, expected in zip(compiled(images).levels, encoder(images).levels, strict=True):
            assert_close(level, expected)
        print(name + mode)
"""
