import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.cli import instantiate_module
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from lit_vlm.encoders import CLIPEncoder, DINOv2Encoder, SigLIPEncoder
from lit_vlm.encoders.transformers_network import to_sizes

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": 8,
}
TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 50,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SIDE = 32


def clip_folder(folder: Path, **changes: Any) -> tuple[Path, Any]:
    torch.manual_seed(0)
    network = CLIPVisionModel(CLIPVisionConfig(**{**SIZES, "image_size": SIDE, **changes}))
    network.save_pretrained(folder)
    return folder, network


def clip_file(folder: Path, **changes: Any) -> tuple[Path, Any]:
    _, network = clip_folder(folder, **changes)
    return folder / "model.safetensors", network


def some_images(side: int = SIDE) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)


def assert_holds(network: Any, expected: dict[str, Tensor]) -> None:
    state = network.state_dict()
    assert len(state) > 10
    for name, value in state.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, expected[name].float()), name


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"embed_dim": 64}, {"hidden_size": 64, "intermediate_size": 256}),
        ({"embed_dim": 64, "mlp_ratio": 2}, {"hidden_size": 64, "intermediate_size": 128}),
        (
            {"embed_dim": 1664, "mlp_ratio": 4.9231},
            {"hidden_size": 1664, "intermediate_size": 8192},
        ),
        ({"hidden_size": 64, "mlp_ratio": 2}, {"hidden_size": 64, "intermediate_size": 128}),
        ({"hidden_size": 64}, {"hidden_size": 64}),
        ({"mlp_ratio": 2}, {"intermediate_size": 2 * 768}),
        ({"embed_dim": 64, "intermediate_size": 9}, {"hidden_size": 64, "intermediate_size": 9}),
        ({"depth": 2, "num_heads": 4}, {"num_hidden_layers": 2, "num_attention_heads": 4}),
    ],
    ids=str,
)
def test_sizes_in_timms_words(config: dict[str, Any], expected: dict[str, Any]) -> None:
    assert to_sizes("Any", config, CLIPVisionConfig) == expected


@pytest.mark.parametrize(
    ("config", "hint"),
    [
        ({"hiden_size": 8}, "got 'hiden_size'. Did you mean: hidden_size"),
        ({"num_head": 8}, "got 'num_head'. Did you mean: .*num_heads"),
        ({"qqq": 8}, "got 'qqq'.$"),
    ],
)
def test_refuses_a_field_that_the_configuration_has_not(config: dict[str, Any], hint: str) -> None:
    message = f"^CLIPEncoder: config must have fields of CLIPVisionConfig, {hint}"
    with pytest.raises(ValueError, match=message):
        CLIPEncoder(config, image_size=SIDE)


def test_refuses_a_config_that_transformers_refuses() -> None:
    message = r"^CLIPEncoder: config=\{.*'num_attention_heads': 3.*\} must be a network, but: "
    with pytest.raises(ValueError, match=r"(?s)" + message):
        CLIPEncoder({**SIZES, "num_attention_heads": 3}, image_size=SIDE)
    with pytest.raises(ValueError, match=r"(?s)SigLIPEncoder: config=.* must be a network, but: "):
        SigLIPEncoder({**SIZES, "hidden_size": "wide"}, image_size=SIDE)


def test_random_networks_are_in_training_mode() -> None:
    assert CLIPEncoder(SIZES, image_size=SIDE).network.training


def test_reads_a_folder(tmp_path: Path) -> None:
    folder, network = clip_folder(tmp_path)
    for pretrained in (folder, str(folder)):
        encoder = CLIPEncoder(pretrained=pretrained, pool=True)
        assert encoder.network.training
        assert (encoder.image_size, encoder.grid) == ((SIDE, SIDE), (4, 4))
        assert_holds(encoder.network, network.state_dict())


@pytest.mark.parametrize("suffix", ["safetensors", "bin", "pth", "pt"])
def test_reads_a_file(tmp_path: Path, suffix: str) -> None:
    _, network = clip_folder(tmp_path)
    file = tmp_path / f"weights.{suffix}"
    save = save_file if suffix == "safetensors" else torch.save
    save(network.state_dict(), file)
    encoder = CLIPEncoder(SIZES, file, pool=True)
    assert encoder.network.training
    assert_holds(encoder.network, network.state_dict())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    folder, network = clip_folder(tmp_path)
    network.to(dtype).save_pretrained(folder)
    saved = json.loads((folder / "config.json").read_text())
    assert str(saved["dtype"]) in str(dtype)
    assert_holds(CLIPEncoder(pretrained=folder, pool=True).network, network.state_dict())
    file = folder / "model.safetensors"
    assert_holds(CLIPEncoder(SIZES, file, pool=True).network, network.state_dict())


def whole_clip(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    torch.manual_seed(0)
    vision = {**SIZES, "image_size": SIDE}
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=TEXT, projection_dim=8))
    model.save_pretrained(folder)
    return folder, model.vision_model.state_dict()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_takes_the_vision_tower_of_a_whole_model_in_silence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    folder, expected = whole_clip(tmp_path)
    capfd.readouterr()
    library = logging.getLogger("transformers")
    monkeypatch.setattr(library, "level", logging.WARNING)
    library.addHandler(caplog.handler)
    try:
        if kind == "folder":
            encoder = CLIPEncoder(pretrained=folder, pool=True)
        else:
            encoder = CLIPEncoder(SIZES, folder / "model.safetensors", pool=True)
    finally:
        library.removeHandler(caplog.handler)
    assert_holds(encoder.network, expected)
    out, err = capfd.readouterr()
    noise = out + err + caplog.text
    for word in ("text_model", "UNEXPECTED", "MISSING", "LOAD REPORT"):
        assert word not in noise
    assert library.level == logging.WARNING


def test_old_names_and_buffers_are_read(tmp_path: Path) -> None:
    """What transformers 4 wrote: a prefix, and the numbers of the positions."""
    _, network = clip_folder(tmp_path)
    state = {f"vision_model.{name}": value for name, value in network.state_dict().items()}
    state["vision_model.embeddings.position_ids"] = torch.arange(17).unsqueeze(0)
    save_file(state, tmp_path / "old.safetensors")
    encoder = CLIPEncoder(SIZES, tmp_path / "old.safetensors", pool=True)
    assert_holds(encoder.network, network.state_dict())


@pytest.mark.parametrize("use_mask_token", [True, False])
def test_a_mask_token_for_pretraining_is_no_loss(tmp_path: Path, use_mask_token: bool) -> None:
    network = Dinov2Model(Dinov2Config(**{**SIZES, "image_size": SIDE}))
    state = network.state_dict()
    assert "embeddings.mask_token" in state
    save_file(state, tmp_path / "dinov2.safetensors")
    sizes = {**SIZES, "use_mask_token": use_mask_token}
    sizes.pop("intermediate_size")
    encoder = DINOv2Encoder(config=sizes, pretrained=tmp_path / "dinov2.safetensors", pool=True)
    assert "embeddings.mask_token" not in encoder.network.state_dict()
    assert_holds(encoder.network, state)


@pytest.mark.parametrize("side", [None, 32, 48])
def test_positions_are_those_of_the_file_at_any_input_size(
    tmp_path: Path, side: int | None
) -> None:
    file, network = clip_file(tmp_path, image_size=SIDE)
    encoder = CLIPEncoder(SIZES, file, layers=[-1], image_size=side)
    assert encoder.image_size == ((side or SIDE), (side or SIDE))
    table = network.embeddings.position_embedding.weight
    assert torch.equal(encoder.network.embeddings.position_embedding.weight, table)
    images = some_images(side or SIDE)
    with torch.no_grad():
        expected = network(encoder.preprocess(images), interpolate_pos_encoding=True)
        assert_close(encoder(images).levels[0], expected.last_hidden_state[:, 1:])


def test_the_side_of_siglips_positions_is_read_from_a_file(tmp_path: Path) -> None:
    config = SiglipVisionConfig(**SIZES, image_size=40)
    SiglipVisionModel(config).save_pretrained(tmp_path)
    encoder = SigLIPEncoder(SIZES, tmp_path / "model.safetensors", image_size=32)
    assert encoder.network.embeddings.position_embedding.weight.shape == (25, 32)


@pytest.mark.parametrize("size", [224, SIDE], ids=["transformers' default", "another"])
def test_is_rebuilt_without_its_folder(tmp_path: Path, size: int) -> None:
    folder, _ = clip_folder(tmp_path, image_size=size, hidden_act="gelu", layer_norm_eps=1e-3)
    mean = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "preprocessor_config.json").write_text(json.dumps(mean))
    encoder = CLIPEncoder(pretrained=folder, layers=[-2, 0], image_size=48, norm=True)
    images = some_images(48)
    with torch.no_grad():
        expected = encoder(images).levels
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    record = encoder.rebuild_config()
    assert record["init_args"]["pretrained"] is None
    json.dumps(record)  # a record is plain
    again = instantiate_module(CLIPEncoder, record["init_args"])
    again.load_state_dict(encoder.state_dict())
    assert again.rebuild_config() == record
    with torch.no_grad():
        for level, before in zip(again(images).levels, expected, strict=True):
            assert torch.equal(level, before)


@pytest.mark.parametrize("kind", [CLIPEncoder, SigLIPEncoder])
def test_statistics_beside_the_weights_are_used(tmp_path: Path, kind: Any) -> None:
    if kind is CLIPEncoder:
        clip_folder(tmp_path)
    else:
        SiglipVisionModel(SiglipVisionConfig(**SIZES, image_size=SIDE)).save_pretrained(tmp_path)
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    encoder = kind(pretrained=tmp_path)
    assert encoder.mean.flatten().tolist() == pytest.approx(said["image_mean"])
    assert encoder.std.flatten().tolist() == pytest.approx(said["image_std"])
    own = kind(pretrained=tmp_path, mean=(0.5, 0.5, 0.5))
    assert own.mean.flatten().tolist() == [0.5] * 3
    assert own.std.flatten().tolist() == pytest.approx(said["image_std"])


@pytest.mark.parametrize(
    "place", ["openai/clip-vit-large-patch14-336", "no/such/folder/weights.pth", "weights.pth"]
)
def test_says_what_to_do_without_a_network(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = (
        f"^CLIPEncoder: must find '{place}' as a file, a folder or on the hub, got .*Error. Give a "
        f"local file or folder, or run once with a network"
    )
    with pytest.raises(OSError, match=message):
        CLIPEncoder(pretrained=place)


def test_refuses_a_folder_without_a_configuration(tmp_path: Path) -> None:
    folder, _ = clip_folder(tmp_path)
    (folder / "config.json").unlink()
    message = "CLIPEncoder: a folder must have a config.json beside its weights, got none in .*Give"
    with pytest.raises(OSError, match=message):
        CLIPEncoder(pretrained=folder)


def test_refuses_a_folder_without_weights(tmp_path: Path) -> None:
    folder, _ = clip_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match="no file named model.safetensors"):
        CLIPEncoder(pretrained=folder)


def test_refuses_the_folder_of_another_family(tmp_path: Path) -> None:
    SiglipVisionModel(SiglipVisionConfig(**SIZES, image_size=SIDE)).save_pretrained(tmp_path)
    message = (
        "CLIPEncoder: pretrained must be of type clip or clip_vision_model, got .*, which is of "
        "type siglip_vision_model. Choose the encoder of that family"
    )
    with pytest.raises(ValueError, match=message):
        CLIPEncoder(pretrained=tmp_path)


@pytest.mark.parametrize("kind", [SigLIPEncoder, DINOv2Encoder])
def test_refuses_clips_folder_elsewhere(tmp_path: Path, kind: Any) -> None:
    folder, _ = clip_folder(tmp_path)
    with pytest.raises(ValueError, match=r"Encoder: pretrained must be .* type clip_vision_model"):
        kind(pretrained=folder)


def test_sizes_beside_a_folder_must_be_those_of_its_weights(tmp_path: Path) -> None:
    folder, network = clip_folder(tmp_path)
    words = {"embed_dim": 32, "mlp_ratio": 2, "depth": 3, "num_heads": 2, "patch_size": 8}
    encoder = CLIPEncoder({**words, "image_size": SIDE}, folder, layers=[3], norm=True)
    assert_close(encoder.network.state_dict(), network.state_dict())
    assert encoder.rebuild_config()["init_args"]["pretrained"] is None

    message = "config must say what the weights .* are, got num_hidden_layers=4, and they have 3"
    with pytest.raises(ValueError, match=f"CLIPEncoder: {message}"):
        CLIPEncoder({**words, "depth": 4, "image_size": SIDE}, folder)


def test_some_sizes_beside_a_folder_are_compared_before_a_network_is_made(tmp_path: Path) -> None:
    folder, _ = clip_folder(tmp_path)
    message = "config must say what the weights .* are, got num_hidden_layers=4, and they have 3"
    with pytest.raises(ValueError, match=f"^CLIPEncoder: {message}"):
        CLIPEncoder({"hidden_size": 32, "num_hidden_layers": 4}, folder)
    # With 12 heads, the default, there is no network.
    message = (
        r"CLIPEncoder: config=\{'hidden_size': 32\} must be a network like that of the weights"
    )
    with pytest.raises(ValueError, match=rf"(?s)^{message} .*Give more of their fields in config"):
        CLIPEncoder({"hidden_size": 32}, folder)


def test_sizes_beside_a_folder_must_say_where_positions_were_learned(tmp_path: Path) -> None:
    folder, _ = clip_folder(tmp_path)
    message = r"got the shape \(785, 32\) for .*position_embedding.*, and theirs .* \(17, 32\)"
    with pytest.raises(ValueError, match=f"{message}. Give more of their fields in config"):
        CLIPEncoder(SIZES, folder)


def test_dinov2s_entry_point_says_what_is_left_out_beside_a_folder(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**sizes, image_size=28, patch_size=14)).save_pretrained(tmp_path)
    config: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2, "image_size": 28}
    assert DINOv2Encoder(pretrained=tmp_path, config=config).dims == (32,)
    with pytest.raises(ValueError, match="got num_hidden_layers=12, and they have 2"):
        DINOv2Encoder(pretrained=tmp_path, config={"embed_dim": 32, "num_heads": 2})


def test_refuses_weights_that_lack_a_block(tmp_path: Path) -> None:
    file, _ = clip_file(tmp_path)
    message = (
        "CLIPEncoder: the weights '.*model.safetensors' must hold all of CLIPVisionModel, got none "
        r"for 16 of its tensors: encoder.layers.3.layer_norm1.bias, .*\(config\)\?"
    )
    with pytest.raises(ValueError, match=message):
        CLIPEncoder({**SIZES, "num_hidden_layers": 4}, file)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_refuses_weights_with_a_block_too_many(tmp_path: Path, kind: str) -> None:
    file, _ = clip_file(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["num_hidden_layers"] = 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    message = (
        "CLIPEncoder: the network must have a place for all of the weights '.*', got none for 16 "
        r"of their tensors: encoder.layers.2.layer_norm1.bias, .* deeper network \(config"
    )
    shallow = {**SIZES, "num_hidden_layers": 2}
    options: dict[str, dict[str, Any]] = {
        "folder": {"pretrained": tmp_path},
        "file": {"config": shallow, "pretrained": file},
    }
    with pytest.raises(ValueError, match=message):
        CLIPEncoder(**options[kind])


def test_refuses_weights_of_another_family_in_a_file(tmp_path: Path) -> None:
    SiglipVisionModel(SiglipVisionConfig(**SIZES, image_size=SIDE)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"CLIPEncoder: the weights '.*' must "):
        CLIPEncoder(SIZES, tmp_path / "model.safetensors")


def test_refuses_weights_of_other_shapes(tmp_path: Path) -> None:
    file, _ = clip_file(tmp_path)
    message = (
        r"CLIPEncoder: the weights '.*' must fit the sizes in config, but 9 of the tensors do "
        r"not: encoder.layers.0.mlp.fc1.bias must be \(48,\), got \(64,\)\."
    )
    with pytest.raises(ValueError, match=message):
        CLIPEncoder({**SIZES, "intermediate_size": 48}, file)


def test_refuses_positions_that_config_denies(tmp_path: Path) -> None:
    file, _ = clip_file(tmp_path)
    message = r"embeddings.position_embedding.weight must be \(37, 32\), got \(17, 32\)"
    with pytest.raises(ValueError, match=message):
        CLIPEncoder({**SIZES, "image_size": 48}, file)


def test_refuses_a_file_that_holds_no_weights(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="list.pth: must hold a state dict"):
        CLIPEncoder(SIZES, tmp_path / "list.pth")
