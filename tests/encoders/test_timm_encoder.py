from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from lightning import Trainer
from lightning.pytorch.cli import instantiate_module
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from lit_vlm.encoders import TimmEncoder
from lit_vlm.testing import check_encoder

VIT: dict[str, Any] = {"patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
SWIN: dict[str, Any] = {
    "embed_dim": 8,
    "depths": (1, 1, 1),
    "num_heads": (1, 1, 1),
    "window_size": 2,
}
VGG = {"mlp_ratio": 0.01}
HALF = (0.5, 0.5, 0.5)


def encoder(
    name: str = "vit_tiny_patch16_224",
    layers: Sequence[int] = (-1,),
    image_size: int = 16,
    config: dict[str, Any] | None = None,
    **others: Any,
) -> TimmEncoder:
    if config is None and name.startswith("vit_"):
        config = VIT
    sizes: dict[str, Any] = {"image_size": image_size, "config": config}
    return TimmEncoder(name, layers=layers, mean=HALF, std=HALF, **sizes, **others)


def some_images(size: int = 16, count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


def images_and_levels(network: TimmEncoder, size: int = 16) -> tuple[Tensor, tuple[Tensor, ...]]:
    images = some_images(size)
    with torch.no_grad():
        return images, network.eval()(images).levels


@pytest.mark.parametrize("layers", [[-1], [0], [1, 0, -1], [2, 2], [-2]], ids=str)
def test_contract_with_any_list_of_layers(layers: list[int]) -> None:
    check_encoder(encoder(layers=layers))


OTHERS: list[tuple[str, int, dict[str, Any]]] = [
    ("vit_base_patch16_clip_quickgelu_224", 16, VIT),
    ("vit_small_patch14_dinov2", 16, VIT),
    ("vit_small_patch14_reg4_dinov2", 16, VIT),
    ("vit_small_patch16_dinov3", 16, {**VIT, "embed_dim": 32}),
    ("vit_base_patch16_siglip_224", 16, VIT),
    ("deit_tiny_distilled_patch16_224", 16, VIT),
    ("deit3_small_patch16_224", 16, VIT),
    ("eva02_tiny_patch14_224", 16, VIT),
    ("beit_base_patch16_224", 16, VIT),
    ("test_vit_relpos", 32, {}),
    ("swin_tiny_patch4_window7_224", 16, SWIN),
    ("vgg11_bn", 32, VGG),
    ("test_resnet", 32, {}),
    ("test_convnext", 32, {}),
    ("test_efficientnet", 32, {}),
    ("tf_efficientnet_lite0", 32, {}),
    ("mobilenetv4_conv_small", 32, {}),
    ("test_maxvit", 32, {}),
]
every_network = pytest.mark.parametrize(
    ("name", "size", "config"), OTHERS, ids=lambda v: str(v)[:40]
)


@every_network
@pytest.mark.parametrize("layers", [[-1], [-2], [0], [1, 0, -2]], ids=str)
def test_contract_of_other_networks(
    name: str, size: int, config: dict[str, Any], layers: list[int]
) -> None:
    if name.startswith("vgg"):
        layers = [layer or 2 for layer in layers]
    check_encoder(encoder(name, layers, size, config))


@every_network
def test_contract_with_the_pooled_output(name: str, size: int, config: dict[str, Any]) -> None:
    check_encoder(encoder(name, [1, -1], size, config, pool=True))


def test_stages_are_averaged_down_to_the_coarsest_that_is_asked_for() -> None:
    fine = encoder("test_resnet", [1], 32)
    both = encoder("test_resnet", [1, 2], 32)
    both.network.load_state_dict(
        timm.create_model("test_resnet", num_classes=0).state_dict(), strict=False
    )
    fine.network.load_state_dict(both.network.state_dict(), strict=False)
    assert (fine.grid, both.grid) == ((8, 8), (4, 4))

    images, (at_8, *_) = images_and_levels(fine, 32)
    with torch.no_grad():
        at_4 = both.eval()(images).levels[0]
    windows = at_8.reshape(2, 4, 2, 4, 2, -1).mean((2, 4))
    assert_close(at_4, windows.flatten(1, 2))


def test_levels_come_in_the_order_asked_for() -> None:
    forwards, backwards = encoder(layers=[0, 1, -1]), encoder(layers=[-1, 1, 0, 1])
    backwards.network.load_state_dict(forwards.network.state_dict())
    images, (zero, one, last) = images_and_levels(forwards)
    assert not torch.equal(one, last)
    with torch.no_grad():
        levels = backwards.eval()(images).levels
    for level, expected in zip(levels, (last, one, zero, one), strict=True):
        assert torch.equal(level, expected)


def test_tokens_are_row_major() -> None:
    network = encoder(layers=[0])
    assert network.grid == (2, 2)
    nn.init.zeros_(network.network.pos_embed)
    images, (before,) = images_and_levels(network)
    images[:, :, :8, 8:] ^= 255  # the upper right patch
    with torch.no_grad():
        (after,) = network(images).levels
    changed = (before != after).any(-1)
    assert changed.tolist() == [[False, True, False, False]] * 2


@pytest.mark.parametrize("layers", [[-2], [0], [1, 0]], ids=str)
def test_the_tower_ends_at_the_deepest_layer_read(layers: list[int]) -> None:
    network = encoder(layers=layers)
    deepest = max(layer % 4 for layer in layers)
    assert len(network.network.blocks) == max(deepest, 1)
    names = {name for name, _ in network.named_parameters()}
    assert not any("norm." in name and "blocks" not in name for name in names), "the final norm"
    if deepest == 0:
        assert not any("blocks" in name for name in names)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("test_resnet", {}),
        ("test_efficientnet", {}),
        ("mobilenetv4_conv_small", {}),
        ("vgg11_bn", VGG),
    ],
)
def test_a_frozen_network_keeps_its_batch_statistics_through_training(
    name: str, config: dict[str, Any]
) -> None:
    eye = encoder(name, [-2], 32, config)
    eye.freeze()
    head = nn.Linear(eye.dims[0], 1)
    model = nn.ModuleDict({"encoder": eye, "head": head})
    before = {name: value.clone() for name, value in eye.state_dict().items()}
    assert any("running_mean" in name for name in before)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(20):
        model.train()
        loss: Tensor = head(eye(some_images(32)).levels[0]).mean()
        torch.autograd.backward(loss)
        optimizer.step()
    for name, value in eye.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_an_unfrozen_network_moves_its_batch_statistics() -> None:
    network = encoder("test_resnet", [-1], 32)
    statistics = network.network.bn1.running_mean
    before = statistics.clone()
    network.train()(some_images(32))
    assert not torch.equal(statistics, before)


def test_making_an_encoder_leaves_batch_statistics_and_mode_alone() -> None:
    network = encoder("test_resnet", [-1], 32).network
    assert network.training
    assert int(network.bn1.num_batches_tracked) == 0


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("vit_tiny_patch16_224", VIT),
        ("eva02_tiny_patch14_224", VIT),
        ("swin_tiny_patch4_window7_224", {**SWIN, "depths": (2, 2, 2)}),
        ("test_convnext", {}),
        ("test_resnet", {}),
        ("test_efficientnet", {}),
    ],
)
def test_gradient_checkpointing_gives_equal_features_and_gradients(
    name: str, config: dict[str, Any]
) -> None:
    config = config if "test_" in name else {**config, "drop_path_rate": 0.0}
    plain = encoder(name, [1, 0, -1], 32, config)
    saving = encoder(name, [1, 0, -1], 32, config, gradient_checkpointing=True)
    saving.network.load_state_dict(plain.network.state_dict())
    images = some_images(32)
    recomputed: list[int] = []
    last = [m for m in saving.network.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    last.register_forward_pre_hook(lambda *_: recomputed.append(1))
    levels = [network.train()(images).levels for network in (plain, saving)]
    for one, other in zip(*levels, strict=True):
        assert_close(one, other)
    for of_network in levels:
        torch.autograd.backward(sum((one.square().mean() for one in of_network), torch.zeros(())))
    assert len(recomputed) == 2, "a block must be run again in the backward pass"
    gradients = {key: weight.grad for key, weight in plain.named_parameters()}
    for key, weight in saving.named_parameters():
        assert_close(weight.grad, gradients[key], msg=key)


def test_gradient_checkpointing_reads_layer_0_of_a_cut_network() -> None:
    for name in ("test_efficientnet", "vit_tiny_patch16_224", "test_convnext"):
        check_encoder(encoder(name, [0], 32, gradient_checkpointing=True))


def test_refuses_gradient_checkpointing_where_timm_has_none() -> None:
    with pytest.raises(ValueError, match="gradient_checkpointing must be off for vgg11, got True"):
        encoder("vgg11", [1], 32, VGG, gradient_checkpointing=True)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("vit_tiny_patch16_224", VIT),
        ("swin_tiny_patch4_window7_224", SWIN),
        ("test_resnet", {}),
        ("vit_small_patch16_dinov3", {**VIT, "embed_dim": 32}),
    ],
)
def test_runs_and_trains_in_bfloat16(name: str, config: dict[str, Any]) -> None:
    network = encoder(name, [1, 0, -1], 32, config)
    images, exact = images_and_levels(network, 32)
    rough = network.to(torch.bfloat16)(images).levels
    for level, expected in zip(rough, exact, strict=True):
        assert level.dtype == torch.bfloat16
        assert_close(level.float(), expected, atol=0.1, rtol=0.1)
    torch.autograd.backward(sum((level.square().mean() for level in rough), torch.zeros(())))
    for key, weight in network.named_parameters():
        assert weight.grad is not None, key
        assert weight.grad.isfinite().all(), key


def test_warns_of_an_untrained_tags_statistics() -> None:
    with pytest.warns(UserWarning, match="vit_large_patch14_224 has no .* timm's default are used"):
        TimmEncoder("vit_large_patch14_224", image_size=16, config=VIT)


def test_names_the_tags_whose_statistics_may_be_meant(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "pth")
    advice = r"default tag .*Name a tag \(.*vit_large_patch14_clip_336\.openai, .*\), or give mean"
    with pytest.warns(UserWarning, match=advice):
        TimmEncoder("vit_large_patch14_clip_336", path, image_size=16, config=VIT)


def test_warns_of_generic_statistics_of_an_untagged_name() -> None:
    with pytest.warns(UserWarning, match="test_mambaout has no pretrained tag"):
        TimmEncoder("test_mambaout", image_size=32)
    with pytest.warns(UserWarning, match="Give mean and std, if weights"):
        TimmEncoder("test_mambaout", image_size=32, mean=HALF)


def test_warns_of_a_default_tags_statistics_for_local_weights(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "pth")
    with pytest.warns(UserWarning, match="vit_tiny_patch16_224 has no .* default tag augreg_in21k"):
        TimmEncoder("vit_tiny_patch16_224", path, image_size=16, config=VIT)
    TimmEncoder("vit_tiny_patch16_224.augreg_in21k_ft_in1k", path, image_size=16, config=VIT)


def test_takes_the_statistics_of_a_tag() -> None:
    network = TimmEncoder("vit_base_patch16_clip_224.openai", image_size=16, config=VIT)
    tagged: Any = timm.create_model("vit_base_patch16_clip_224.openai", **VIT)
    expected = tagged.pretrained_cfg
    assert network.mean.flatten().tolist() == pytest.approx(expected["mean"])
    assert network.std.flatten().tolist() == pytest.approx(expected["std"])


def test_says_which_networks_are_near_an_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"timm knows, got 'resnet5'\. Near it: .*resnet50"):
        TimmEncoder("resnet5")
    with pytest.raises(ValueError, match=r"got 'convnxt_tiny'\. Near it: convnext_tiny,"):
        TimmEncoder("convnxt_tiny")


@pytest.mark.parametrize("layer", [4, -5])
def test_refuses_a_layer_that_does_not_exist(layer: int) -> None:
    message = rf"vit_tiny_patch16_224 must be 0 to 3 \(or -1 for 3 and down\), got {layer}"
    with pytest.raises(ValueError, match=message):
        encoder(layers=[0, layer])


def test_refuses_layer_0_of_a_network_without_a_stem() -> None:
    with pytest.raises(ValueError, match="vgg11 must be 1 to 6 .* got 0"):
        encoder("vgg11", [0], 32, VGG)


def test_says_which_tags_there_are() -> None:
    for pretrained in (None, "test_resnet.tv"):
        name = "test_resnet" if pretrained else "test_resnet.tv"
        with pytest.raises(ValueError, match=r"timm has \(r160_in1k\), got 'tv'"):
            TimmEncoder(name, pretrained)
    with pytest.raises(ValueError, match=r"timm has \(it has none\), got 'in1k'"):
        TimmEncoder("test_mambaout.in1k")


def test_refuses_no_layers() -> None:
    with pytest.raises(ValueError, match="must name at least one layer, got none"):
        encoder(layers=[])


def test_refuses_a_config_that_the_network_does_not_take() -> None:
    with pytest.raises(ValueError, match="config does not fit test_resnet: .*'depht'"):
        encoder("test_resnet", config={"depht": 3})


def test_refuses_a_config_that_contradicts_itself() -> None:
    with pytest.raises(
        ValueError, match="config=.* must fit vit_tiny_patch16_224, got .*divisible"
    ):
        encoder(config={**VIT, "num_heads": 3})


def test_refuses_a_size_that_the_network_does_not_take() -> None:
    with pytest.raises(ValueError, match="image_size must be one that the network takes, got 8"):
        encoder("vgg11", [-1], 8, VGG)  # five times halved


def test_refuses_a_size_of_which_patches_would_leave_out_pixels() -> None:
    with pytest.raises(ValueError, match="multiple of the patch size 8, got 20. Take 16 or 24"):
        encoder(image_size=20)
    own = TimmEncoder("vit_tiny_patch16_224", mean=HALF, std=HALF, config={**VIT, "patch_size": 15})
    assert own.grid == (14, 14), "SigLIP's 384 pixels in patches of 14 are the network's own"


def saved(folder: Path, kind: str, size: int = 16) -> tuple[Path, nn.Module]:
    """Save a whole network with its head, as it would be downloaded."""
    network: Any = timm.create_model("vit_tiny_patch16_224", img_size=size, num_classes=5, **VIT)
    weights = network.state_dict()
    files = {"folder": "model.safetensors", "file": "any.safetensors"}
    if kind in files:
        save_file(weights, folder / files[kind])
        return (folder if kind == "folder" else folder / files[kind]), network
    path = folder / f"weights.{kind.split()[0]}"
    torch.save({"state_dict": weights} if "wrapped" in kind else weights, path)
    return path, network


@pytest.mark.parametrize("kind", ["folder", "file", "pth", "bin", "ckpt wrapped"])
def test_reads_local_weights(tmp_path: Path, kind: str) -> None:
    path, network = saved(tmp_path, kind)
    ours = encoder(layers=[1], pretrained=path)
    loaded = ours.network.state_dict()
    expected = network.state_dict()
    assert "blocks.0.attn.qkv.weight" in loaded
    for name, value in loaded.items():
        assert torch.equal(value, expected[name]), name
    assert "state_dict" not in ours.network.pretrained_cfg, "a second copy of the weights"


def test_resamples_the_positions_of_local_weights(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "pth", size=16)
    ours = encoder(image_size=32, pretrained=str(path))
    assert ours.grid == (4, 4)
    assert ours.network.pos_embed.shape[1] == 1 + 16


def test_refuses_weights_of_another_network(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "pth")
    with pytest.raises(ValueError, match="weights '.*weights.pth' and .* must fit vit_tiny"):
        encoder(config={**VIT, "embed_dim": 32}, pretrained=path)


def test_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'hub', a file or folder that exists, .* 'none.pth'"):
        encoder(pretrained="none.pth")


def test_refuses_the_weights_of_another_architecture() -> None:
    with pytest.raises(ValueError, match="other weights of vit_tiny_patch16_224, got 'resnet18.a1"):
        encoder(pretrained="resnet18.a1_in1k")


@pytest.mark.parametrize("pretrained", ["hub", "test_vit.r160_in1k"])
def test_says_what_to_do_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretrained: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    nowhere = {"cache_dir": str(tmp_path)}
    with pytest.raises(OSError, match="'test_vit.*' are not on this machine .* Give a local file"):
        encoder("test_vit", config=nowhere, pretrained=pretrained)


def test_is_rebuilt_without_its_files(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "pth")
    network = TimmEncoder(
        "vit_tiny_patch16_224.augreg_in21k",
        pretrained=path,
        layers=[-2, 0],
        image_size=16,
        config=VIT,
    )
    path.unlink()
    record = network.rebuild_config()
    assert record["init_args"]["pretrained"] is None
    again = instantiate_module(TimmEncoder, record["init_args"])
    again.load_state_dict(network.state_dict())
    assert again.rebuild_config() == record
    images, levels = images_and_levels(network)
    with torch.no_grad():
        for level, expected in zip(again.eval()(images).levels, levels, strict=True):
            assert torch.equal(level, expected)


def test_a_checkpoint_of_the_encoder_alone_suffices(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "pth")
    network = encoder(layers=[1], pretrained=path)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_model_summary=False, enable_progress_bar=False
    )
    trainer.strategy.connect(network)
    path.unlink()
    for generation in ("first.ckpt", "second.ckpt"):
        trainer.save_checkpoint(tmp_path / generation)
        again = TimmEncoder.load_from_checkpoint(tmp_path / generation, weights_only=True)
        images, levels = images_and_levels(network)
        with torch.no_grad():
            assert torch.equal(again.eval()(images).levels[0], levels[0])
        network = again
        trainer.strategy.connect(network)
