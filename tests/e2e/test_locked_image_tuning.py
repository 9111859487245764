"""Locked-image tuning from the command line, on a table of pictures and captions."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lit_vlm.encoders import TimmEncoder
from lit_vlm.pretraining import ContrastivePretraining

CONFIG = """
trainer: {default_root_dir: FOLDER/RUN, accelerator: cpu, devices: 1, max_epochs: 3,
          log_every_n_steps: 1}
best_checkpoint: {monitor: val/text_to_image_r1}
model:
  class_path: lit_vlm.pretraining.ContrastivePretraining
  init_args:
    encoder:
      class_path: TimmEncoder
      init_args: {model_name: test_resnet, pretrained: FOLDER/eye.pth, image_size: 32,
                  mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
    text_encoder:
      class_path: lit_vlm.language_models.TextEncoder
      init_args:
        config: {vocab_size: 300, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1,
                 num_attention_heads: 2, max_position_embeddings: 24, attention_dropout: 0.1}
    loss: sigmoid
    towers: Lu
data:
  class_path: lit_vlm.data.ImageTextDataModule
  init_args:
    train:
      class_path: lit_vlm.data.PairsFile
      init_args: {path: FOLDER/train.csv, on_bad_image: skip}
    val: {class_path: lit_vlm.data.PairsFile, init_args: {path: FOLDER/val.csv}}
    test: {class_path: lit_vlm.data.PairsFile, init_args: {path: FOLDER/val.csv}}
    batch_size: 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of noise with two captions each, of which one cannot be read, and an encoder."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["image", "caption"])
            for place in range(count):
                name = f"{split}-{place}.png"
                noise = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(noise).save(tmp_path / name)
                table.writerows([[name, f"noise {place}"], [name, f"more noise {place}"]])
    (tmp_path / "train-5.png").write_bytes(b"no picture")
    eye = TimmEncoder("test_resnet", image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    torch.save(eye.network.state_dict(), tmp_path / "eye.pth")
    return tmp_path


def losses(run: Path) -> list[str]:
    with (run / "metrics.csv").open() as file:
        return [row["train/loss"] for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.filterwarnings("ignore:1 pictures could not be read")
def test_vectors_computed_once_change_no_bit_of_a_run(
    folder: Path, cli: Callable[..., tuple[int, str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    states: list[dict[str, Any]] = []
    for name, cache in (("once", "true"), ("live", "false")):
        config = folder / f"{name}.yaml"
        config.write_text(CONFIG.replace("FOLDER", str(folder)).replace("RUN", name))
        caplog.clear()
        code, _, err = cli("fit", "--config", config, "--model.cache_features", cache)
        assert code == 0, err
        said = "The vectors of 7 training pictures were computed once" in caplog.text
        assert said == (name == "once")
        read = ContrastivePretraining.load_from_checkpoint(folder / name / "checkpoints/last.ckpt")
        states.append(dict(read.state_dict()))
    assert losses(folder / "once") == losses(folder / "live")
    assert len(losses(folder / "once")) >= 6
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    published = torch.load(folder / "eye.pth")
    assert all(
        torch.equal(states[0][f"encoder.network.{name}"], value)
        for name, value in published.items()
        if f"encoder.network.{name}" in states[0]
    )


def test_letters_that_do_not_fit_are_one_message(
    folder: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    config = folder / "lit.yaml"
    config.write_text(CONFIG.replace("FOLDER", str(folder)).replace("RUN", "run"))
    code, _, err = cli("fit", "--config", config, "--model.towers", "UU")
    assert code != 0
    assert "towers=UU must go with text_encoder.pretrained, got None for 'U'" in err
    assert "Traceback" not in err
    code, _, err = cli("fit", "--config", config, "--model.towers", "lu")
    assert code != 0
    assert "towers" in err
    stages = '{"all": {"trains": ["head"]}}'
    code, _, err = cli("fit", "--config", config, "--staged_freezing.stages", stages)
    assert code != 0
    assert "towers=Lu must say alone what trains, got StagedFreezing too" in err
