"""Runs in stages through the command line: killed in each, and with a stranger's module."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow

STAGES = """
trainer:
  max_epochs: -1
  limit_train_batches: 1000
  limit_val_batches: 0
  default_root_dir: run
  enable_progress_bar: false
test_after_fit: false
last_checkpoint:
  every_n_train_steps: 5
staged_freezing:
  stages:
    align: {trains: [connector], steps: 40, learning_rate: 1.0e-2}
    tune: {trains: [connector, language_model], steps: 40, warmup: 0.1}
    eyes: {trains: [encoder, connector], steps: 40, min_learning_rate: 0.1}
pretrained_lr:
  parts:
    encoder: {multiplier: 0.3, layer_decay: 0.8}
    language_model: {multiplier: 0.5}
"""


def command(folder: Path, *words: str) -> list[str]:
    (folder / "stages.yaml").write_text(STAGES)
    configs = ("--config", "debug", "--config", "stages.yaml")
    return [sys.executable, "-m", "lit_vlm", "fit", *configs, *words]


def finish(folder: Path, *words: str) -> str:
    done = subprocess.run(
        command(folder, *words),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "run" / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("train/loss")]


def curve(folder: Path) -> list[tuple[str, ...]]:
    """Return, for each step, the stage, the loss and the learning rates, as written."""
    names = ("step", "stage", "train/loss", "lr/connector", "lr/encoder", "lr/language_model")
    return [tuple(row[name] for name in names) for row in rows(folder)]


def state(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(folder / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all three stages ran to their end."""
    folder = tmp_path_factory.mktemp("whole")
    printed = finish(folder)
    assert "Stage eyes (3 of 3): from step 80 to step 120, encoder, connector train." in printed
    return folder


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_a_run_killed_in_each_of_its_stages_is_the_same_run(
    whole: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    again: tuple[str, ...] = ()
    for steps in (20, 60, 100):
        with subprocess.Popen(
            command(tmp_path, *again),
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            wait_for_rows(tmp_path, steps, process)
            os.killpg(process.pid, stop)
        assert process.returncode == (-9 if stop == signal.SIGKILL else 143)
        saved = state(tmp_path)["global_step"]
        seen = int(rows(tmp_path)[-1]["step"]) + 1
        assert (saved == seen) if stop == signal.SIGTERM else (steps - 5 <= saved <= seen)
        assert (saved - 1) // 40 == (steps - 1) // 40, "it was to be killed in the next stage"
        again = ("--ckpt_path", "last")
    finish(tmp_path, *again)
    assert curve(tmp_path) == curve(whole)
    for name in ("stage-align", "stage-tune", "last"):
        kept, expected = state(tmp_path, name), state(whole, name)
        assert kept["global_step"] == expected["global_step"]
        for key, value in expected["state_dict"].items():
            assert torch.equal(kept["state_dict"][key], value), (name, key)


def test_sigterm_to_one_of_two_processes_saves_the_last_step(tmp_path: Path) -> None:
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", "--last_checkpoint.every_n_train_steps")
    with subprocess.Popen(
        command(tmp_path, *two, "1000"),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_for_rows(tmp_path, 20, process)
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=120)
    assert process.returncode == 143, printed
    assert state(tmp_path)["global_step"] == int(rows(tmp_path)[-1]["step"]) + 1


def test_a_changed_plan_is_obeyed_on_resume(whole: Path, tmp_path: Path) -> None:
    checkpoint = str(whole / "run" / "checkpoints" / "stage-align.ckpt")
    longer = ("--staged_freezing.stages.tune.steps=3", "--staged_freezing.stages.eyes.steps=2")
    finish(tmp_path, "--ckpt_path", checkpoint, *longer)
    assert [row["stage"] for row in rows(tmp_path)] == ["2.0"] * 3 + ["3.0"] * 2
    assert state(tmp_path)["global_step"] == 45


def wait_for_rows(folder: Path, steps: int, process: "subprocess.Popen[Any]") -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert process.poll() is None, "the run ended by itself"
        metrics = folder / "run" / "metrics.csv"
        if metrics.exists() and (text := metrics.read_text()).endswith("\n"):
            last = text.splitlines()[-1].split(",")
            step = text.splitlines()[0].split(",").index("step")
            if len(last) > step and last[step].isdigit() and int(last[step]) >= steps:
                return
        time.sleep(0.01)
    raise AssertionError(f"no {steps} steps in time")
