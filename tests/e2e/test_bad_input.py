"""Mistakes of users, through the command line: one readable message and no traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

CLI = Callable[..., tuple[int, str, str]]


def failure(cli: CLI, *words: object) -> str:
    """Run a command; return the message that it fails with."""
    code, _, err = cli(*words)
    assert code == 1
    *message, hint = err.splitlines()
    assert hint == "  (--debug shows where this came from)"
    assert "Traceback" not in err
    assert message[0].startswith("lit-vlm: ")
    return "\n".join(message).removeprefix("lit-vlm: ")


@pytest.fixture
def fit(cli: CLI, cli_folder: Path, tmp_path: Path) -> Callable[..., str]:
    """Run ``fit`` on the tiny config with changes; return its message."""

    def run(*words: object, **changes: Any) -> str:
        content = yaml.safe_load((cli_folder / "tiny.yaml").read_text())
        for key, value in changes.items():
            *parents, last = key.split("__")
            inner = content
            for parent in parents:
                inner = inner[parent]["init_args"]
            inner[last] = value
        (tmp_path / "changed.yaml").write_text(yaml.safe_dump(content))
        place = ("--trainer.default_root_dir", tmp_path / "run")
        return failure(cli, "fit", "--config", tmp_path / "changed.yaml", *place, *words)

    return run


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--model.connector.depth", "0", "MLPConnector: depth must be at least 1, got 0."),
        (
            "--model.learning_rate",
            "-1",
            "VisionLanguageModel: learning_rate must be positive, got -1",
        ),
        (
            "--model.warmup",
            "1.5",
            "VisionLanguageModel: warmup must be a number of steps or a share",
        ),
        ("--data.batch_size", "0", "ConversationDataModule: batch_size must be at least 1, got 0."),
        ("--model.encoder.layers", "[33]", "TimmEncoder: layers of test_resnet must be 0 to 4"),
        ("--model.encoder.model_name", "rsnet50", "TimmEncoder: model_name must be a network that"),
        (
            "--model.fusion.level",
            "4",
            "PickLevel: level must name one of the encoder's 1 levels, got 4",
        ),
        ("--trainer.accelerator", "gpux", "You selected an invalid accelerator name"),
        ("--trainer.strategy", "dpp", "You selected an invalid strategy name"),
    ],
)
def test_the_message_is_the_constructors_own(
    fit: Callable[..., str], option: str, value: str, message: str
) -> None:
    assert fit(option, value).startswith(message)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "CausalLanguageModel: must have pretrained (a hub name"),
        (
            {"model_type": "lama", "vocab_size": 300},
            "CausalLanguageModel: config must have a model_t",
        ),
        ({"model_type": "llama"}, "CausalLanguageModel: config must have vocab_size"),
    ],
)
def test_the_message_of_a_nested_part_is_its_own(
    fit: Callable[..., str], config: Any, message: str
) -> None:
    assert fit(model__language_model__config=config).startswith(message)


def test_a_part_to_freeze_that_does_not_exist_is_named(
    fit: Callable[..., str], tmp_path: Path
) -> None:
    callbacks = [{"class_path": "Freeze", "init_args": {"parts": ["encodr"]}}]
    path = tmp_path / "freeze.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    assert "(encoder, fusion, connector, language_model" in fit("--config", path)


def test_a_run_folder_that_cannot_be_made_is_named(
    cli: CLI, cli_folder: Path, finished_run: Path
) -> None:
    place = ("--trainer.default_root_dir", finished_run / "config.yaml/run")
    message = failure(cli, "fit", "--config", cli_folder / "tiny.yaml", *place)
    assert message.endswith(
        "config.yaml/run (Not a directory). Choose another by --trainer.default_root_dir FOLDER."
    )


def test_an_output_that_cannot_be_written_stops_before_anything_is_computed(
    cli: CLI, cli_folder: Path, finished_run: Path
) -> None:
    checkpoint = ("--ckpt_path", finished_run / "checkpoints/last.ckpt")
    words = ("predict", *checkpoint, "--data", cli_folder / "val.jsonl", "--output")
    assert "--output must be a file, got the folder" in failure(cli, *words, cli_folder)
    below = cli_folder / "tiny.yaml/predictions.jsonl"
    assert "Choose another by --output FILE" in failure(cli, *words, below)


def test_there_must_be_training_data(fit: Callable[..., str]) -> None:
    assert "ConversationDataModule: train must have a source, got none" in fit(data__train=None)


def test_a_missing_file_of_training_data_is_named(fit: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "no.jsonl"
    message = fit("--data.train.path", path)
    assert message == (
        f"JSONConversations: path must be a JSON or JSON Lines file, got {path}, which does not "
        f"exist."
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "nope.png"}, "there is no image"),
        ({"image": "corrupt.png"}, "corrupt.png cannot be read"),
        ({"image": "val-0.png", "conversations": []}, "must have one <image> in its texts"),
        (
            {"conversations": [{"from": "humn", "value": "<image>"}]},
            "must be one of system, human,",
        ),
    ],
)
def test_a_bad_sample_is_named_also_by_worker_processes(
    fit: Callable[..., str],
    cli_folder: Path,
    tmp_path: Path,
    change: Any,
    message: str,
    workers: int,
) -> None:
    picture = (cli_folder / "val-0.png").read_bytes()
    (tmp_path / "val-0.png").write_bytes(picture)
    (tmp_path / "corrupt.png").write_bytes(picture[: len(picture) // 2])
    record = json.loads((cli_folder / "val.jsonl").read_text().splitlines()[0])
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({**record, "image": "val-0.png"} | change))
    found = fit("--data", path, "--data.num_workers", workers)
    assert found.startswith(f"{path}:1 (sample 'val-0'): ")
    assert message in found
    assert "\n" not in found


@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
def test_a_truncated_file_is_named_with_the_line(
    fit: Callable[..., str], cli_folder: Path, tmp_path: Path, name: str
) -> None:
    lines = (cli_folder / "val.jsonl").read_text().splitlines()
    text = "\n".join(lines) if name.endswith("l") else "[" + ",\n".join(lines) + "]"
    path = tmp_path / name
    path.write_text(text[: -len(lines[-1]) // 2])
    assert fit("--data", path).startswith(f"{path}:4: ")


@pytest.mark.parametrize("command", ["validate", "test", "predict", "fit"])
def test_a_checkpoint_that_does_not_exist_is_named(
    cli: CLI, cli_folder: Path, command: str
) -> None:
    config = ("--config", cli_folder / "tiny.yaml") if command == "fit" else ()
    message = failure(cli, command, *config, "--ckpt_path", "runs/no.ckpt")
    assert message.startswith("--ckpt_path must be a checkpoint")
    assert "runs/no.ckpt" in message


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_run_that_cannot_be_resumed_is_named(fit: Callable[..., str], name: str) -> None:
    assert f"got '{name}': there is no" in fit("--ckpt_path", name)


@pytest.mark.parametrize("command", ["test", "fit"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("empty", "must be a whole checkpoint of lit-vlm, got an empty file"),
        ("cut", "must be a whole checkpoint of lit-vlm, got one that was cut off"),
        ("overwritten", "the checkpoint must be whole, got a damaged one"),
        ("state dict", "must be a checkpoint of lit-vlm, got one that does not say what model"),
        ("other module", "must be a checkpoint of lit-vlm, got one that does not say what model"),
    ],
)
def test_a_checkpoint_that_is_damaged_or_of_another_kind_is_refused(
    cli: CLI,
    cli_folder: Path,
    finished_run: Path,
    tmp_path: Path,
    damage: str,
    message: str,
    command: str,
) -> None:
    path = tmp_path / "x.ckpt"
    whole = (finished_run / "checkpoints/last.ckpt").read_bytes()
    third = len(whole) // 3
    if damage == "state dict":
        torch.save({"weight": torch.zeros(2)}, path)
    elif damage == "other module":
        torch.save({"state_dict": {}, "hyper_parameters": {"lr": 0.1}}, path)
    else:
        content = {
            "empty": b"",
            "cut": whole[: 2 * third],
            "overwritten": whole[:third] + bytes(3000) + whole[third + 3000 :],
        }
        path.write_bytes(content[damage])
    place = ("--trainer.default_root_dir", tmp_path / "run")
    config = ("--config", cli_folder / "tiny.yaml", *place) if command == "fit" else ()
    assert message in failure(cli, command, *config, "--ckpt_path", path)


@pytest.mark.parametrize("command", ["test", "fit"])
def test_weights_of_another_model_are_named(
    cli: CLI, cli_folder: Path, finished_run: Path, tmp_path: Path, command: str
) -> None:
    words = ("--config", cli_folder / "tiny.yaml", "--model.connector", "LinearConnector")
    place = ("--trainer.default_root_dir", tmp_path / "run")
    checkpoint = finished_run / "checkpoints/last.ckpt"
    message = failure(cli, command, *words, *place, "--ckpt_path", checkpoint)
    first, missing, unexpected, remedy = message.splitlines()
    assert first == "the checkpoint's weights do not fit the model that was configured:"
    assert '"connector.linear.weight"' in missing
    assert '"connector.layers.0.weight"' in unexpected
    assert remedy.startswith("Leave --config out to rebuild the checkpoint's own model")


def test_a_class_of_a_project_that_is_gone_is_named(
    cli: CLI, finished_run: Path, tmp_path: Path
) -> None:
    content = torch.load(finished_run / "checkpoints/last.ckpt", weights_only=True)
    gone = {"class_path": "my_gone_project.MyConnector", "init_args": {}}
    content["hyper_parameters"]["connector"] = gone
    torch.save(content, tmp_path / "x.ckpt")
    code, _, err = cli("test", "--ckpt_path", tmp_path / "x.ckpt")
    assert code == 2
    assert "at model.connector: the module 'my_gone_project' must be importable from this" in err
