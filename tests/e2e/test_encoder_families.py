"""Each family of encoders in the quickstart, exchanged by flags alone, from random weights."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

CLI = Callable[..., tuple[int, str, str]]

VIT = {"embed_dim": 48, "depth": 3, "num_heads": 3, "patch_size": 16}
BOTH = {
    "clip": {
        "class_path": "CLIPEncoder",
        "init_args": {"config": VIT, "image_size": 64, "layers": [1, 2, 3]},
    },
    "dino": {
        "class_path": "DINOv2Encoder",
        "init_args": {"config": VIT, "image_size": 48, "layers": [2, 3]},
    },
}
FAMILIES = {
    "clip": ["CLIPEncoder", "--model.encoder.config", json.dumps(VIT)],
    "siglip": ["SigLIPEncoder", "--model.encoder.config", json.dumps(VIT)],
    "dinov2": ["DINOv2Encoder", "--model.encoder.config", json.dumps(VIT)],
    "dinov2 with registers by timm": [
        *("DINOv2Encoder", "--model.encoder.config", json.dumps(VIT)),
        *("--model.encoder.entry_point", "dinov2_vits14_reg", "--model.encoder.port", "timm"),
    ],
    "timm": ["TimmEncoder", "--model.encoder.model_name", "test_vit"],
    "comm": [
        *("EnsembleEncoder", "--model.encoder.encoders", json.dumps(BOTH)),
        *("--model.fusion", "COMMFusion", "--model.connector", "LinearConnector"),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("flags", FAMILIES.values(), ids=FAMILIES.keys())
def test_learns_in_the_quickstart(cli: CLI, flags: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    short = (
        *("--trainer.default_root_dir", run, "--trainer.max_epochs", "2"),
        *("--trainer.limit_train_batches", "12", "--trainer.limit_val_batches", "1"),
        *("--trainer.log_every_n_steps", "3", "--model.warmup", "4", "--test_after_fit", "false"),
    )
    code, out, err = cli("fit", "--config", "quickstart", "--model.encoder", *flags, *short)
    assert code == 0, err
    assert flags[0] in out
    with (run / "metrics.csv").open(newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 8
    assert losses[-1] < 0.5 * losses[0]
    assert sorted(losses, reverse=True)[0] == losses[0]

    # The checkpoint alone rebuilds the encoder, whichever it is.
    lines = (tmp_path / "questions.jsonl").open("w")
    with lines:
        lines.write('{"id": "a", "messages": [{"role": "user", "content": "what color?"}]}\n')
    words = ("--data", tmp_path / "questions.jsonl", "--output", tmp_path / "answers.jsonl")
    code, _, err = cli("predict", "--ckpt_path", run / "checkpoints/last.ckpt", *words)
    assert code == 0, err
