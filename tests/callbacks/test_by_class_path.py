"""The callbacks in another project's module, named in a config."""

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

CONFIG = """
trainer:
  default_root_dir: {folder}/run
  accelerator: cpu
  devices: 1
  max_epochs: -1
  log_every_n_steps: 1
  enable_progress_bar: false
  callbacks:
    - class_path: StagedFreezing
      init_args:
        stages:
          align: {{trains: [neck, head], steps: 8}}
          tune: {{trains: [body, neck, head, temperature], epochs: 2, learning_rate: 0.01}}
    - class_path: PretrainedLR
      init_args:
        parts:
          body: {{multiplier: 0.1}}
    - class_path: TrainableReport
      init_args: {{check_after: 2}}
best_checkpoint:
  monitor: val/accuracy
model:
  class_path: plain_project.PlainClassifier
data:
  class_path: plain_project.PlainData
"""


def test_a_plain_classifier_is_trained_in_stages_from_a_config(
    plain_project: ModuleType, cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    config = tmp_path / "plain.yaml"
    config.write_text(CONFIG.format(folder=tmp_path))
    code, out, err = cli("fit", "--config", config)
    assert code == 0, err
    assert "stage align (1 of 2" in out
    assert "stage tune (2 of 2" in out
    checkpoints = tmp_path / "run" / "checkpoints"
    align = torch.load(checkpoints / "stage-align.ckpt", weights_only=True)
    last = torch.load(checkpoints / "last.ckpt", weights_only=True)
    assert (align["global_step"], last["global_step"]) == (8, 20)
    moved = {
        name.partition(".")[0]
        for name, value in last["state_dict"].items()
        if not torch.equal(value, align["state_dict"][name])
    }
    assert moved == {"body", "neck", "head", "temperature"}
    rates = {group["name"]: group["lr"] for group in last["optimizer_states"][0]["param_groups"]}
    assert {rate for name, rate in rates.items() if name.startswith("body")} == {0.01 * 0.1}
    assert {rate for name, rate in rates.items() if not name.startswith("body")} == {0.01}
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        stages = [row["stage"] for row in csv.DictReader(file) if row["train/loss"]]
    assert stages == ["1.0"] * 8 + ["2.0"] * 12


def test_a_typo_in_a_stage_is_named(
    plain_project: ModuleType, cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    config = tmp_path / "plain.yaml"
    config.write_text(CONFIG.format(folder=tmp_path).replace("steps: 8", "stepz: 8"))
    code, _, err = cli("fit", "--config", config)
    assert code == 2
    assert "unknown option 'stepz' for lit_vlm.stages.Stage. Did you mean: steps?" in err
    config.write_text(CONFIG.format(folder=tmp_path).replace("[neck, head]", "[nekc, head]"))
    code, _, err = cli("fit", "--config", config)
    assert code == 1
    assert "StagedFreezing: stages.align.trains must name modules of PlainClassifier" in err
    assert "Did you mean: neck" in err


def test_a_callback_that_is_listed_stands_for_the_one_that_is_there_anyway(
    plain_project: ModuleType, cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    config = tmp_path / "plain.yaml"
    listed = "  callbacks:\n    - class_path: LastCheckpoint\n"
    listed += "      init_args: {every_n_train_steps: 3}\n"
    listed += "    - class_path: BestCheckpoint\n      init_args: {monitor: val/accuracy}\n"
    config.write_text(CONFIG.format(folder=tmp_path).replace("  callbacks:\n", listed))
    code, _, err = cli("fit", "--config", config, "--staged_freezing.stages.a.trains=[head]")
    assert code == 2
    assert "StagedFreezing must be configured once" in err
    code, _, err = cli("fit", "--config", config)
    assert code == 0, err
    names = {path.stem for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"best", "last", "stage-align", "stage-tune"}


def test_a_schedule_without_an_end_is_refused_before_training(
    plain_project: ModuleType, cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    config = tmp_path / "plain.yaml"
    text = CONFIG.format(folder=tmp_path).replace("epochs: 2,", "schedule: cosine,")
    config.write_text(text)
    code, _, err = cli("fit", "--config", config)
    assert code == 1
    assert "'cosine' must know where stage 'tune' ends" in err
    assert not (tmp_path / "run" / "checkpoints").exists()
