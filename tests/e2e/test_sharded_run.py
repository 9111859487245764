import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lit_vlm.checkpoints import is_sharded_checkpoint, load_model, read_checkpoint

pytestmark = pytest.mark.slow
SHARDS = """
trainer:
  devices: 2
  strategy: {class_path: StagedModelParallel, init_args: {save_distributed_checkpoint: true}}
"""


def program(*words: object, fails: bool = False) -> str:
    command = [sys.executable, "-m", "lit_vlm", *map(str, words)]
    done = subprocess.run(command, check=not fails, timeout=240, capture_output=True, text=True)
    assert bool(done.returncode) == fails
    return done.stdout + done.stderr


def logged_losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [float(row["train/loss"]) for row in rows if row["train/loss"]]


def answered(run: Path) -> list[str]:
    lines = (run / "predictions.jsonl").read_text().splitlines()
    return sorted(json.loads(line)["id"] for line in lines)


@pytest.mark.parametrize("in_shards", [False, True], ids=["whole", "shards"])
def test_a_sharded_run_trains_resumes_and_is_evaluated(
    cli_folder: Path, tmp_path: Path, in_shards: bool
) -> None:
    (tmp_path / "shards.yaml").write_text(SHARDS)
    fsdp2: list[object] = ["--trainer.accelerator", "cpu"]
    fsdp2 += ["--trainer.devices", 2, "--trainer.strategy", "fsdp2"]
    more = ["--config", tmp_path / "shards.yaml"] if in_shards else fsdp2
    config = ["--config", cli_folder / "tiny.yaml", *more, "--data.batch_size", 2]

    def fit(run: str, *words: object) -> list[float]:
        program("fit", *config, "--trainer.default_root_dir", tmp_path / run, *words)
        return logged_losses(tmp_path / run)

    fit("run")
    last = tmp_path / "run/checkpoints/last.ckpt"
    assert is_sharded_checkpoint(last) == in_shards
    assert answered(tmp_path / "run") == [f"val-{i}" for i in range(4)]  # of best.ckpt
    more_epochs = ["--trainer.max_epochs", 3, "--test_after_fit", "false"]
    resumed = fit("run", "--ckpt_path", "last", *more_epochs)
    assert len(resumed) == 6
    (tmp_path / "run/predictions.jsonl").unlink()
    program("test", "--ckpt_path", last, *fsdp2, "--output", tmp_path / "run/predictions.jsonl")
    assert answered(tmp_path / "run") == [f"val-{i}" for i in range(4)]
    if in_shards:
        message = program("test", "--ckpt_path", last, fails=True)
        assert "got a folder of shards, which only --trainer.strategy fsdp2 can load" in message
        tool = [sys.executable, "-m", "lightning.fabric.utilities.consolidate_checkpoint"]
        whole = tmp_path / "whole.ckpt"
        subprocess.run([*tool, last, "--output_file", whole], check=True, timeout=240)
        last = whole
    load_model(last)
    program("test", "--ckpt_path", last, "--trainer.default_root_dir", tmp_path / "alone")


def test_sigterm_to_one_process_saves_the_last_step_of_both(
    cli_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ["fit", "--config", cli_folder / "tiny.yaml", "--trainer.default_root_dir", run]
    words += ["--trainer.devices", 2, "--trainer.strategy", "fsdp2", "--trainer.max_epochs", 9999]
    words += ["--trainer.limit_val_batches", 0]
    process = subprocess.Popen([sys.executable, "-m", "lit_vlm", *map(str, words)])
    try:
        while not (run / "metrics.csv").exists():
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 128 + signal.SIGTERM
    finally:
        process.kill()
    steps = read_checkpoint(run / "checkpoints/last.ckpt")["global_step"]
    assert steps == len(logged_losses(run)) > 0
