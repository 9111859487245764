import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from lit_vlm.callbacks import FeatureWriter
from lit_vlm.encoders import CLIPEncoder
from lit_vlm.images import fit_image, read_image

CLI = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.filterwarnings("ignore:CLIPEncoder has random weights")

SIZES = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 8}
CLIP = ("--model", "CLIPEncoder", "--model.config", json.dumps(SIZES), "--model.image_size", "32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pictures of different shapes and colours."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(7):
        Image.new("RGB", (30 + i, 20), (30 * i, 90, 10)).save(pictures / f"{i}.png")
    return pictures


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
        return {key: file.get_tensor(key) for key in file.keys()}, metadata


def test_writes_what_the_encoder_sees(
    cli: CLI, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr("lit_vlm.cli.rank_zero_warn", warned.append)
    output = tmp_path / "features.safetensors"
    words = ("--model.layers", "[-2,1]", "--model.pool", "true", "--data.batch_size", "3")
    code, out, err = cli("predict", *CLIP, *words, "--data", folder, "--output", output)
    assert code == 0, err
    assert (
        f"features of 7 images are in {output}: layer_2 (7, 16, 32), layer_1 (7, 16, 32), poo"
        in out
    )
    assert warned[0].startswith("CLIPEncoder has random weights. Give --model.pretrained or")
    features, metadata = read(output)
    assert metadata["images"] == [str(folder / f"{i}.png") for i in range(7)]
    assert metadata["grid"] == [4, 4]
    assert metadata["encoder"]["init_args"]["layers"] == [-2, 1]

    torch.manual_seed(0)  # as the command does
    encoder = CLIPEncoder(SIZES, layers=[-2, 1], image_size=32, pool=True).eval()
    images = [
        fit_image(read_image(path), encoder.image_size, "pad", encoder.fill)
        for path in metadata["images"]
    ]
    with torch.no_grad():
        expected = encoder(torch.stack(images))
    for name, level in zip(("layer_2", "layer_1"), expected.levels, strict=True):
        torch.testing.assert_close(features[name], level)
    torch.testing.assert_close(features["pooled"], expected.pooled)


def test_names_pictures_that_cannot_be_read(cli: CLI, folder: Path, tmp_path: Path) -> None:
    (folder / "3.png").write_bytes(b"no picture")
    output = tmp_path / "features.safetensors"
    words = ("--data", folder, "--output", output)
    code, _, err = cli("predict", *CLIP, *words)
    assert code == 1
    assert "3.png cannot be read" in err
    assert "--data.on_bad_image skip" in err
    assert not list(tmp_path.glob("features*"))

    with pytest.warns(UserWarning, match="1 images could not be read: their rows are NaN"):
        code, _, err = cli("predict", *CLIP, *words, "--data.on_bad_image", "skip")
    assert code == 0, err
    features, _ = read(output)
    bad = features["layer_3"].isnan().flatten(1).all(1)
    assert bad.tolist() == [i == 3 for i in range(7)]
    assert not features["layer_3"][~bad].isnan().any()
    lines = (tmp_path / "features.safetensors.skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [3]


def test_a_batch_of_bad_pictures_is_no_batch_of_the_network(
    cli: CLI, folder: Path, tmp_path: Path
) -> None:
    for name in ("0.png", "1.png"):
        (folder / name).write_bytes(b"no picture")
    output = tmp_path / "features.safetensors"
    words = ("--model.pool", "true", "--data.batch_size", "2", "--data.on_bad_image", "skip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        code, _, err = cli("predict", *CLIP, *words, "--data", folder, "--output", output)
    assert code == 0, err
    features, _ = read(output)
    assert features["pooled"].isnan().all(1).tolist() == [True] * 2 + [False] * 5


def test_refuses_a_checkpoint_of_another_class(cli: CLI, folder: Path, finished_run: Path) -> None:
    checkpoint = ("--ckpt_path", finished_run / "checkpoints/last.ckpt")
    code, _, err = cli("predict", *CLIP, "--data", folder, *checkpoint)
    assert code == 2
    assert "--ckpt_path must hold a CLIPEncoder, got" in err
    assert "which holds a VisionLanguageModel." in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "phottos"), "--data must be a file or a folder, got phottos: not there."),
        (("--output", "out.jsonl"), "FeatureWriter: output must be a .safetensors file"),
        (("--data", "no/folder"), "--data must be a file or a folder, got no/folder: not there."),
        (("--model.layers", "[4]"), "CLIPEncoder: layers must be 0 to 3"),
        (("--model.image_size", "30"), "CLIPEncoder: image_size must be a multiple of the patch"),
        (("--model.pretrained", "no/such"), "CLIPEncoder: must find 'no/such' as a file, a folder"),
    ],
)
def test_explains_a_mistake(
    cli: CLI, folder: Path, words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    place = ("--trainer.default_root_dir", tmp_path / "run")
    sizes = CLIP if "--model.pretrained" not in words else CLIP[:2]
    code, _, err = cli("predict", *sizes, "--data", folder, *place, *words)
    assert code in (1, 2)
    assert message in err
    assert "Traceback" not in err


def test_refuses_questions_for_an_encoder_and_images_for_a_model(
    cli: CLI, folder: Path, cli_folder: Path, finished_run: Path
) -> None:
    code, _, err = cli("predict", *CLIP, "--data", cli_folder / "val.jsonl")
    assert code == 2
    assert "--data must be a folder of images or an image for CLIPEncoder" in err
    checkpoint = finished_run / "checkpoints/last.ckpt"
    code, _, err = cli("predict", "--ckpt_path", checkpoint, "--data", folder)
    assert code == 2
    assert "--data must be a file of questions (.jsonl) for VisionLanguageModel" in err


def test_a_layer_read_twice_is_kept_twice(cli: CLI, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "features.safetensors"
    words = ("--model.layers", "[1,1]", "--data", folder / "0.png", "--output", output)
    code, _, err = cli("predict", *CLIP, *words)
    assert code == 0, err
    features, _ = read(output)
    assert torch.equal(features["level_0"], features["level_1"])


def test_its_file_must_be_of_its_kind() -> None:
    with pytest.raises(ValueError, match=r"output must be a \.safetensors file, got a\.npz"):
        FeatureWriter("a.npz")


@pytest.mark.slow
def test_two_processes_write_one_file(folder: Path, tmp_path: Path) -> None:
    (folder / "3.png").write_bytes(b"no picture")
    outputs = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    for output, how in zip(outputs, ((), two), strict=True):
        words = ("--data", str(folder), "--data.on_bad_image", "skip", "--data.batch_size", "2")
        program = [sys.executable, "-m", "lit_vlm", "predict", *CLIP, *words, *how]
        subprocess.run(
            [*program, "--trainer.accelerator", "cpu", "--output", str(output)],
            check=True,
            timeout=240,
        )
    one, two_features = (read(output)[0] for output in outputs)
    torch.testing.assert_close(one["layer_3"], two_features["layer_3"], equal_nan=True)
    assert len((tmp_path / "two.safetensors.skipped.jsonl").read_text().splitlines()) == 1
