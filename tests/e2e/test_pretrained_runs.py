"""What follows a pretraining run on the command line: its best state, tests, other commands."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

CLI = Callable[..., tuple[int, str, str]]
CONFIG = """
trainer: {default_root_dir: FOLDER/run, accelerator: cpu, devices: 1, max_epochs: 2,
          log_every_n_steps: 1}
model:
  class_path: CLASS
  init_args:
    encoder:
      class_path: CLIPEncoder
      init_args:
        config: {embed_dim: 16, depth: 1, num_heads: 2, patch_size: 8}
        image_size: 16
        mean: [0.5, 0.5, 0.5]
        std: [0.5, 0.5, 0.5]
        pool: true
"""
CLASSES = """
data:
  class_path: ImageClassificationDataModule
  init_args:
    train: {class_path: ImageFolder, init_args: {root: FOLDER/train}}
    val: {class_path: ImageFolder, init_args: {root: FOLDER/val}}
    test: {class_path: ImageFolder, init_args: {root: FOLDER/val}}
    batch_size: 4
"""
PAIRS = """
data:
  class_path: ImageTextDataModule
  init_args:
    train: {class_path: PairsFile, init_args: {path: FOLDER/train.csv}}
    val: {class_path: PairsFile, init_args: {path: FOLDER/val.csv}}
    test: {class_path: PairsFile, init_args: {path: FOLDER/val.csv}}
    batch_size: 4
"""
CLASSIFICATION = CONFIG.replace("CLASS", "ClassificationPretraining") + "    num_classes: 2\n"
DISTILLATION = (
    CONFIG.replace("CLASS", "SelfDistillation")
    + """    training_views: {class_path: MultiCrop, init_args: {num_local: 1, local_size: 8}}
    num_prototypes: 8
    hidden_dim: 8
    bottleneck_dim: 4
    warmup: 1
"""
)
CONTRAST = (
    CONFIG.replace("CLASS", "ContrastivePretraining")
    + """    text_encoder:
      class_path: TextEncoder
      init_args:
        config: {vocab_size: 300, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1,
                 num_attention_heads: 2, max_position_embeddings: 24}
"""
)
EVALUATION = """
feature_evaluation:
  data: {class_path: ImageClassificationDataModule, init_args: {
    train: {class_path: ImageFolder, init_args: {root: FOLDER/train}},
    val: {class_path: ImageFolder, init_args: {root: FOLDER/val}},
    test: {class_path: ImageFolder, init_args: {root: FOLDER/val}}}}
  knn: [2]
  probe_learning_rates: []
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of noise by class, and tables of them with captions."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["image", "caption"])
            for place in range(count):
                path = tmp_path / split / "ab"[place % 2] / f"{place}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(noise).save(path)
                table.writerow([path, f"noise {place}"])
    return tmp_path


def fit(cli: CLI, folder: Path, config: str, *words: object) -> Path:
    """Train; return the folder of the run's checkpoints."""
    path = folder / "made.yaml"
    path.write_text(config.replace("FOLDER", str(folder)))
    code, _, err = cli("fit", "--config", path, *words)
    assert code == 0, err
    return folder / "run" / "checkpoints"


def test_classification_and_contrast_choose_their_best_state_unasked(
    cli: CLI, folder: Path
) -> None:
    for config, key in (
        (CLASSIFICATION + CLASSES, "BestCheckpoint[val/top1]"),
        (CONTRAST + PAIRS, "BestCheckpoint[val/text_to_image_r1]"),
    ):
        made = fit(cli, folder, config, "--test_after_fit", "false")
        assert key in torch.load(made / "best.ckpt", weights_only=True)["callbacks"]


def test_self_distillation_has_no_best_state_and_tests_its_last(
    cli: CLI, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    quick = ("--feature_evaluation.knn", "[2]", "--feature_evaluation.probe_steps", 3)
    made = fit(cli, folder, DISTILLATION + CLASSES, *quick)
    assert [path.name for path in made.iterdir()] == ["last.ckpt"]
    assert caplog.text.count("No best.ckpt is kept: SelfDistillation logs no figure") == 1
    assert "Testing the last state" in caplog.text
    assert (folder / "run" / "evaluation.json").is_file()
    # It is evaluated when it is validated, though it was not while it trained.
    code, out, err = cli("validate", "--ckpt_path", made / "last.ckpt")
    assert code == 0, err
    assert "val/probe" in out


def test_a_validation_without_figures_says_so(
    cli: CLI, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr("lit_vlm.cli.rank_zero_warn", warned.append)
    made = fit(cli, folder, DISTILLATION + CLASSES, "--test_after_fit", "false")
    never = ("--feature_evaluation.every_n_validations", 0)
    assert cli("validate", "--ckpt_path", made / "last.ckpt", *never)[0] == 0
    assert warned[0].startswith("validate: SelfDistillation logged no figures.")


def test_a_checkpoint_is_evaluated_as_its_run_was_to_be(cli: CLI, folder: Path) -> None:
    config = CONTRAST + PAIRS + EVALUATION
    made = fit(cli, folder, config, "--test_after_fit", "false")
    code, _, err = cli("test", "--ckpt_path", made / "last.ckpt")
    assert code == 0, err
    content = json.loads((folder / "run" / "evaluation-last.json").read_text())
    methods = {score["method"] for score in content["scores"]}
    assert methods == {"knn_2", "zero_shot_top1"}
    code, out, _ = cli("validate", "--ckpt_path", made / "last.ckpt")
    assert code == 0
    assert "val/knn_2_pooled" in out
    without = ("--feature_evaluation.data", "null", "--output", folder / "plain.json")
    code, _, err = cli("test", "--ckpt_path", made / "last.ckpt", *without)
    assert code == 0, err
    assert "test/text_to_image_r1" in json.loads((folder / "plain.json").read_text())


def test_output_of_a_test_without_classes_has_the_figures(cli: CLI, folder: Path) -> None:
    made = fit(cli, folder, CONTRAST + PAIRS, "--test_after_fit", "false")
    output = folder / "scores.json"
    code, out, err = cli("test", "--ckpt_path", made / "best.ckpt", "--output", output)
    assert code == 0, err
    figures = json.loads(output.read_text())
    assert figures["test/pictures"] == 4
    assert 0 <= figures["test/text_to_image_r1"] <= 1
    assert f"the test's figures are in {output}" in out


@pytest.mark.filterwarnings("ignore:FeatureEvaluation. neighbours and probes are left out")
def test_a_classifier_is_tested_on_test_data_alone(cli: CLI, folder: Path) -> None:
    made = fit(cli, folder, CLASSIFICATION + CLASSES, "--test_after_fit", "false")
    alone = ("--data.train", "null", "--data.val", "null", "--output", folder / "scores.json")
    code, out, err = cli("test", "--ckpt_path", made / "best.ckpt", *alone)
    assert code == 0, err
    assert "test/top1" in out
    assert json.loads((folder / "scores.json").read_text())["test/samples"] == 4


def test_predict_and_chat_say_what_to_do_with_a_pretraining(cli: CLI, folder: Path) -> None:
    made = fit(cli, folder, CLASSIFICATION + CLASSES, "--test_after_fit", "false")
    path = made / "last.ckpt"
    code, _, err = cli("predict", "--ckpt_path", path, "--data", folder / "val")
    assert code == 2
    command = f"predict --model CLIPEncoder --model.pretrained {path} --data FOLDER"
    assert (
        "predict is for vision-language models and encoders, got a ClassificationPretraining" in err
    )
    assert f"lit-vlm {command}." in err
    words = command.replace("FOLDER", str(folder / "val")).split()
    cpu = ("--trainer.accelerator", "cpu", "--trainer.default_root_dir", folder / "predicted")
    code, _, err = cli(*words, *cpu)
    assert code == 0, err
    code, _, err = cli("chat", "--ckpt_path", made / "last.ckpt", "hi")
    assert code == 1
    assert "must hold a VisionLanguageModel, got ClassificationPretraining. Train one with" in err
    assert f"--model.encoder CLIPEncoder --model.encoder.pretrained {made / 'last.ckpt'}" in err


def test_data_that_cannot_be_evaluated_stops_a_run_before_it_trains(cli: CLI, folder: Path) -> None:
    (folder / "made.yaml").write_text(
        (CONTRAST + PAIRS + EVALUATION).replace("FOLDER", str(folder))
    )
    asked = ("--config", folder / "made.yaml", "--feature_evaluation.every_n_validations", 1)
    code, _, err = cli("fit", *asked, "--feature_evaluation.data.val", "null")
    assert code == 1
    assert "feature_evaluation.data must have val, got none" in err
    code, _, err = cli("fit", *asked, "--feature_evaluation.data", "null")
    assert code == 1
    assert "the data must have labelled_loader(split)" in err
    assert not (folder / "run" / "metrics.csv").exists()
