import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.testing import assert_close

from lit_vlm.cli import LitVLMCLI

CLI = Callable[..., tuple[int, str, str]]

NO_TEST = ("--test_after_fit", "false")
RESUME = (*NO_TEST, "--ckpt_path", "last", "--trainer.max_epochs", 3)
THEIR_PROJECT = """
import torch
from lightning import LightningDataModule, LightningModule
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

class Classifier(LightningModule):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(8, width), torch.nn.ReLU(), torch.nn.Linear(width, 2)
        )

    def training_step(self, batch, batch_idx):
        return functional.cross_entropy(self.layers(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        points, classes, index = batch
        losses = functional.cross_entropy(self.layers(points), classes, reduction="none")
        self.log("val/loss", losses.mean())
        return {"scores": -losses, "index": index}

    def test_step(self, batch, batch_idx):
        self.log("test/loss", functional.cross_entropy(self.layers(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)

class Points(LightningDataModule):
    def _loader(self, seed):
        random = torch.Generator().manual_seed(seed)
        points = torch.randn(64, 8, generator=random)
        wrong = torch.rand(64, generator=random) < 0.4
        classes = (points[:, 0] > 0).long() ^ wrong.long()
        return DataLoader(TensorDataset(points, classes, torch.arange(64)), batch_size=32)

    def train_dataloader(self):
        return self._loader(0)

    def val_dataloader(self):
        return self._loader(1)

    def test_dataloader(self):
        return self._loader(2)
"""
THEIR_CONFIG = """
trainer: {default_root_dir: run, accelerator: cpu, devices: 1, max_epochs: 30, log_every_n_steps: 1}
model: my_project_points.Classifier
data: my_project_points.Points
best_checkpoint: {monitor: val/loss, mode: min}
checkpoint_selection: {split: test}
"""
MY_PROJECT = '''
from torch import Tensor, nn
from lit_vlm.connectors import Connector

class MyConnector(Connector):
    """Scale, then project."""

    def __init__(self, in_dim: int, out_dim: int, scale: float = 1.0) -> None:
        super().__init__(in_dim, out_dim)
        if scale == 0:
            raise ValueError("MyConnector: scale must not be 0.")
        self.scale = scale
        self.project = nn.Linear(in_dim, out_dim)

    def num_tokens(self, num_patches: int) -> int:
        return num_patches

    def forward(self, tokens: Tensor) -> Tensor:
        return self.project(self.scale * tokens)
'''


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run that may be changed."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[LitVLMCLI]:
    """What the command line has built, without running it."""
    made: list[LitVLMCLI] = []

    def keep(cli: LitVLMCLI, subcommand: str) -> None:
        made.append(cli)

    monkeypatch.setattr(LitVLMCLI, "_run_subcommand", keep)
    return made


@pytest.fixture
def news(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the command line tells about a run."""
    told: list[str] = []
    monkeypatch.setattr("lit_vlm.cli.rank_zero_info", told.append)
    return told


def metrics_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def training_steps(run: Path) -> list[int]:
    return [int(row["step"]) for row in metrics_of(run) if row["train/loss"]]


def succeed(cli: CLI, *words: object) -> str:
    code, out, err = cli(*words)
    assert code == 0, err
    return out


def test_fit_leaves_a_whole_run_folder(finished_run: Path) -> None:
    left = {str(path.relative_to(finished_run)) for path in finished_run.rglob("*")}
    assert left == {
        "checkpoints",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "curves.png",
        "metrics.csv",
        "predictions.jsonl",
    }
    assert training_steps(finished_run) == [0, 1, 2, 3]
    assert (finished_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    lines = (finished_run / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"val-{i}" for i in range(4)]


def test_checkpoints_hold_only_plain_values_and_tensors(finished_run: Path) -> None:
    for name in ("best", "last"):
        torch.load(finished_run / f"checkpoints/{name}.ckpt", weights_only=True)


def test_a_second_fit_moves_the_first_run_aside(cli: CLI, cli_folder: Path, run: Path) -> None:
    first = (run / "metrics.csv").read_bytes()
    words = (*NO_TEST, "--trainer.default_root_dir", run, "--trainer.max_epochs", 1)
    succeed(cli, "fit", "--config", cli_folder / "tiny.yaml", *words)
    assert (run.parent / "run.1/metrics.csv").read_bytes() == first
    assert training_steps(run) == [0, 1]


def test_resuming_continues_the_log_and_counts_each_step_once(
    cli: CLI, cli_folder: Path, run: Path
) -> None:
    before = [row for row in metrics_of(run) if row["train/loss"]]
    words = (*RESUME, "--trainer.default_root_dir", run)
    succeed(cli, "fit", "--config", cli_folder / "tiny.yaml", *words)
    assert training_steps(run) == [0, 1, 2, 3, 4, 5]
    losses = [row["train/loss"] for row in metrics_of(run) if row["train/loss"]]
    assert losses[:4] == [row["train/loss"] for row in before]
    assert not (run.parent / "run.1").exists()


def test_the_best_checkpoint_of_a_moved_run_is_still_the_one_to_beat(
    cli: CLI, cli_folder: Path, run: Path
) -> None:
    best = run / "checkpoints/best.ckpt"
    before = best.read_bytes()
    words = (*RESUME, "--trainer.default_root_dir", run)
    succeed(cli, "fit", "--config", cli_folder / "tiny.yaml", *words)
    accuracies = [float(row["val/accuracy"]) for row in metrics_of(run) if row["val/accuracy"]]
    assert len(accuracies) == 3
    assert (best.read_bytes() == before) == (accuracies[2] <= max(accuracies[:2]))


def test_resuming_from_a_path_with_a_config_goes_on_from_there(
    cli: CLI, cli_folder: Path, run: Path, tmp_path: Path
) -> None:
    checkpoint = run / "checkpoints/last.ckpt"
    words = (*NO_TEST, "--trainer.default_root_dir", tmp_path / "new", "--trainer.max_epochs", 3)
    succeed(cli, "fit", "-c", cli_folder / "tiny.yaml", *words, f"--ckpt_path={checkpoint}")
    assert training_steps(tmp_path / "new") == [4, 5]


@pytest.mark.slow
def test_an_interrupted_and_resumed_run_equals_one_that_ran_through(
    cli: CLI, cli_folder: Path, finished_run: Path, tmp_path: Path
) -> None:
    config = ("--config", cli_folder / "tiny.yaml", "--model.schedule", "constant")
    words = ("fit", *config, *NO_TEST, "--trainer.default_root_dir")
    through = tmp_path / "through"
    succeed(cli, *words, through)
    succeed(cli, *words, tmp_path / "run", "--trainer.max_steps", 3)
    succeed(cli, *words, tmp_path / "run", "--ckpt_path", "last")
    assert training_steps(tmp_path / "run") == training_steps(through) == [0, 1, 2, 3]
    resumed, whole = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for folder in (tmp_path / "run", through)
    )
    assert_close(resumed, whole, rtol=0, atol=0)


def test_the_command_line_beats_the_checkpoint_and_differences_are_told(
    cli: CLI, cli_folder: Path, run: Path, news: list[str]
) -> None:
    words = (*RESUME, "--trainer.default_root_dir", run)
    changed = ("--model.learning_rate", 0.002, "--model.schedule", "constant")
    succeed(cli, "fit", "--config", cli_folder / "tiny.yaml", *words, *changed)
    assert news == [
        "learning_rate: 0.002 is used, the checkpoint was made with 0.0001",
        "schedule: 'constant' is used, the checkpoint was made with 'cosine'",
    ]
    rates = [float(row["lr/connector"]) for row in metrics_of(run) if row["train/loss"]]
    assert rates[4:] == pytest.approx([0.002, 0.002])


def test_resuming_without_changes_tells_of_none(
    cli: CLI, cli_folder: Path, run: Path, news: list[str]
) -> None:
    words = (*RESUME, "--trainer.default_root_dir", run)
    succeed(cli, "fit", "--config", cli_folder / "tiny.yaml", *words)
    assert news == []


@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_checkpoint_is_enough_to_evaluate(
    cli: CLI, run: Path, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    out = succeed(cli, command, "--ckpt_path", run / "checkpoints/best.ckpt")
    assert "accuracy" in out
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    new = {path.name for path in after.keys() - before.keys()}
    assert new == ({"predictions-best.jsonl"} if command == "test" else set())
    assert list(Path.cwd().iterdir()) == []


def test_predict_writes_an_answer_for_each_line_of_a_file(
    cli: CLI, cli_folder: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    question = {"messages": [{"role": "user", "content": "what color is grass?"}]}
    picture = {"type": "image", "path": str(cli_folder / "val-1.png")}
    asked = {"id": "b", "messages": [{"role": "user", "content": [picture]}]}
    Path("questions.jsonl").write_text(f"{json.dumps(question)}\n{json.dumps(asked)}\n")
    words = ("--data", "questions.jsonl", "--output", "out/predictions.jsonl")
    succeed(cli, "predict", "--ckpt_path", run / "checkpoints/last.ckpt", *words)
    rows = [json.loads(line) for line in Path("out/predictions.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["questions-0", "b"]
    assert rows[0]["question"] == "what color is grass?"
    assert rows[1]["images"] == [str(cli_folder / "val-1.png")]
    assert {row["answer"] for row in rows} == {None}


def test_fit_trains_on_the_file_named_on_the_command_line(
    cli: CLI, cli_folder: Path, built: list[LitVLMCLI]
) -> None:
    words = ("--config", cli_folder / "tiny.yaml", "--data", cli_folder / "val.jsonl")
    succeed(cli, "fit", *words)
    datamodule: Any = built[0].datamodule
    assert [source.path.name for source in datamodule.sources["train"]] == ["val.jsonl"]
    assert datamodule.batch_size == 3


def test_later_configs_and_the_command_line_win(
    cli: CLI, cli_folder: Path, tmp_path: Path, built: list[LitVLMCLI]
) -> None:
    for name, content in {
        "a.yaml": {
            "model": {"init_args": {"learning_rate": 0.1, "weight_decay": 0.1, "warmup": 9}}
        },
        "b.yaml": {"model": {"init_args": {"weight_decay": 0.2, "warmup": 8}}},
    }.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    files = (cli_folder / "tiny.yaml", tmp_path / "a.yaml", tmp_path / "b.yaml")
    words = [word for file in files for word in ("--config", file)]
    succeed(cli, "fit", *words, "--model.warmup", 7)
    model: Any = built[0].model
    assert (model.learning_rate, model.weight_decay, model.warmup) == (0.1, 0.2, 7)


def test_a_class_is_exchanged_by_its_short_name(
    cli: CLI, cli_folder: Path, built: list[LitVLMCLI]
) -> None:
    words = ("--config", cli_folder / "tiny.yaml", "--model.connector", "LinearConnector")
    succeed(cli, "fit", *words, "--data.train", "EasyVQA", "--data.train.split", "train")
    model, datamodule = built[0].model, built[0].datamodule
    assert type(model.connector).__name__ == "LinearConnector"
    assert [type(source).__name__ for source in datamodule.sources["train"]] == ["EasyVQA"]


def test_callbacks_are_named_in_the_config_and_added_to_the_librarys(
    cli: CLI, cli_folder: Path, tmp_path: Path, built: list[LitVLMCLI]
) -> None:
    callbacks = [{"class_path": "Freeze", "init_args": {"parts": ["encoder"]}}]
    path = tmp_path / "callbacks.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    succeed(cli, "fit", "--config", cli_folder / "tiny.yaml", "--config", path)
    trainer: Any = built[0].trainer
    names = [type(callback).__name__ for callback in trainer.callbacks]
    assert {"Freeze", "BestCheckpoint", "LastCheckpoint", "RNGState", "AnswerReport"} <= set(names)


def test_variables_are_interpolated_after_the_command_line_set_them(
    cli: CLI, cli_folder: Path, tmp_path: Path, built: list[LitVLMCLI]
) -> None:
    path = tmp_path / "vars.yaml"
    path.write_text("vars: {rate: 0.1}\nmodel: {init_args: {learning_rate: '${vars.rate}'}}\n")
    words = ("--config", cli_folder / "tiny.yaml", "--config", path)
    succeed(cli, "fit", *words)
    succeed(cli, "fit", *words, "--vars.rate", 0.3)
    rates = [made.model.learning_rate for made in built]
    assert rates == [0.1, 0.3]


def test_an_undefined_variable_is_named(cli: CLI, cli_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "vars.yaml"
    path.write_text("model: {init_args: {learning_rate: '${vars.rate}'}}\n")
    code, _, err = cli("fit", "--config", cli_folder / "tiny.yaml", "--config", path)
    assert code == 1
    assert "${vars.rate} must be a key of the config, got none" in err


def test_the_saved_config_and_the_printed_one_make_the_same_run(
    cli: CLI, cli_folder: Path, finished_run: Path, tmp_path: Path, built: list[LitVLMCLI]
) -> None:
    printed = tmp_path / "printed.yaml"
    words = ("--config", cli_folder / "tiny.yaml", "--model.warmup", 3)
    printed.write_text(succeed(cli, "fit", *words, "--print_config"))
    succeed(cli, "fit", *words)
    succeed(cli, "fit", "--config", printed)
    succeed(cli, "fit", "--config", finished_run / "config.yaml", "--model.warmup", 3)
    records = [made.model.init_config for made in built]
    assert records[0] == records[1] == records[2]
    configs = [yaml.safe_load(made.parser.dump(made.config))["fit"] for made in built]
    for config in configs:
        config.pop("config", None)
    assert configs[0] == configs[1] == configs[2]


@pytest.mark.parametrize("word", ["--model.connector", "--model.connector=LinearConnector"])
def test_print_config_needs_no_files(cli: CLI, cli_folder: Path, word: str) -> None:
    words = [word] if "=" in word else [word, "LinearConnector"]
    out = succeed(cli, "fit", "--config", cli_folder / "tiny.yaml", *words, "--print_config")
    assert "lit_vlm.connectors.LinearConnector" in out


def test_seeds_choose_the_weights(cli: CLI, cli_folder: Path, built: list[LitVLMCLI]) -> None:
    for seed in (1, 1, 2):
        succeed(cli, "fit", "--config", cli_folder / "tiny.yaml", "--seed_everything", seed)
    first, same, other = (list(made.model.parameters())[0].detach() for made in built)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_users_class_trains_and_its_checkpoint_is_enough(
    cli: CLI, cli_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_project.py").write_text(MY_PROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    words = ("--model.connector", "my_project.MyConnector", "--model.connector.scale", 0.5)
    places = (*NO_TEST, "--trainer.default_root_dir", "run", "--trainer.max_epochs", 1)
    succeed(cli, "fit", "--config", cli_folder / "tiny.yaml", *words, *places)
    checkpoint = "run/checkpoints/last.ckpt"
    record = torch.load(checkpoint, weights_only=True)["hyper_parameters"]["connector"]
    assert record == {"class_path": "my_project.MyConnector", "init_args": {"scale": 0.5}}
    assert succeed(cli, "chat", "--ckpt_path", checkpoint, "hi").endswith("\n")
    succeed(cli, "test", "--ckpt_path", checkpoint)


def test_what_a_users_constructor_says_is_the_message(
    cli: CLI, cli_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_project_too.py").write_text(MY_PROJECT)
    monkeypatch.chdir(tmp_path)
    words = ("--model.connector", "my_project_too.MyConnector", "--model.connector.scale", 0)
    code, _, err = cli("fit", "--config", cli_folder / "tiny.yaml", *words)
    assert (code, err.splitlines()[0]) == (1, "lit-vlm: MyConnector: scale must not be 0.")


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_help_lists_the_options_of_a_command(cli: CLI, command: str) -> None:
    out = succeed(cli, command, "--help")
    assert "--best_checkpoint.monitor" in out
    assert "--trainer.max_epochs" in out


def test_fit_ends_with_a_selection_that_later_commands_find(
    cli: CLI, cli_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    config = ("--config", cli_folder / "tiny.yaml", "--trainer.default_root_dir", run)
    out = succeed(cli, "fit", *config, "--data.selection", 0.34, "--data.batch_size", 2)
    assert "selected: last, since" in out
    record = json.loads((run / "checkpoints.json").read_text())
    assert (record["choice"], record["split"]) == ("last", "selection")
    left = {path.name for path in (run / "checkpoints").iterdir()}
    assert left == {"best.ckpt", "last.ckpt", "selected.ckpt"}
    for command in ("test", "predict"):
        data = ("--data", cli_folder / "val.jsonl")
        succeed(cli, command, *config, *data, "--ckpt_path", "selected")
        answers = "predictions-selected.jsonl" if command == "test" else "answers-selected.jsonl"
        assert len((run / answers).read_text().splitlines()) == 4
    for words in ((*config, "--ckpt_path", "selected"), ("--ckpt_path", run)):
        assert succeed(cli, "chat", *words, "hi").endswith("\n")
    succeed(cli, "validate", "--ckpt_path", run)
    more = ("--data.selection", 0.34, "--data.batch_size", 2, "--trainer.max_epochs", 3)
    succeed(cli, "fit", *config, *more, *NO_TEST, "--ckpt_path", "selected")
    assert json.loads((run / "checkpoints.json").read_text())["candidates"]["last"]["step"] == 6


def test_another_projects_module_is_selected_and_tested(
    cli: CLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_project_points.py").write_text(THEIR_PROJECT)
    (tmp_path / "points.yaml").write_text(THEIR_CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    out = succeed(cli, "fit", "--config", "points.yaml")
    assert "selected: best, since best - last is +" in out
    record = json.loads(Path("run/checkpoints.json").read_text())
    assert (record["choice"], record["items"], record["split"]) == ("best", 64, "test")
    tested = succeed(cli, "test", "--config", "points.yaml", "--ckpt_path", "selected")
    figure = record["candidates"]["best"]["monitored"]
    assert f"{figure:.6f}"[:6] in tested
    assert f"{figure:.6f}"[:6] in out.rpartition("selected:")[2]
    more = ("--trainer.max_epochs", 31, "--checkpoint_selection.split", "null")
    succeed(cli, "fit", "--config", "points.yaml", *more, "--ckpt_path", "last")
    assert not Path("run/checkpoints.json").exists()
    assert not Path("run/checkpoints/selected.ckpt").exists()


@pytest.mark.slow
def test_a_run_prints_what_matters_and_no_advertisement(cli_folder: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "lit_vlm", "fit", "--config", str(cli_folder / "tiny.yaml")]
    done = subprocess.run(
        [*program, "--trainer.default_root_dir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "what trains" in done.stdout
    assert "does it look?" in done.stdout
    assert [line for line in done.stderr.splitlines() if line] == [
        "Seed set to 0",
        "`Trainer.fit` stopped: `max_epochs=2` reached.",
        f"Testing {tmp_path}/run/checkpoints/best.ckpt",
        f"Loaded model weights from the checkpoint at {tmp_path}/run/checkpoints/best.ckpt",
    ]


@pytest.mark.slow
def test_two_processes_train_one_run_and_another_number_resumes_it(
    cli_folder: Path, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "lit_vlm", "fit", "--config", str(cli_folder / "tiny.yaml")]
    place = ["--trainer.default_root_dir", str(tmp_path / "run"), "--data.batch_size", "1"]
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    subprocess.run([*program, *place, *two], check=True, timeout=240)
    assert training_steps(tmp_path / "run") == list(range(6))
    lines = (tmp_path / "run/predictions.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == [f"val-{i}" for i in range(4)]
    resume = ["--ckpt_path", "last", "--trainer.max_epochs", "3"]
    done = subprocess.run(
        [*program, *place, *resume], check=True, timeout=240, capture_output=True, text=True
    )
    assert "random states of 2 processes, this run has 1" in done.stderr
    assert not (tmp_path / "run.1").exists()


def test_a_resume_that_is_refused_changes_no_file(cli: CLI, cli_folder: Path, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    place = ("--trainer.default_root_dir", run)
    fit = ("fit", "--config", cli_folder / "tiny.yaml", *place)
    code, _, err = cli(*fit, "--ckpt_path", "last", "--trainer.max_epochs", "1")
    assert code == 1
    assert "current_epoch" in err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    succeed(cli, *fit, *RESUME)


def test_a_run_that_cannot_begin_leaves_the_earlier_one_in_its_place(
    cli: CLI, cli_folder: Path, run: Path
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    place = ("--trainer.default_root_dir", run)
    fit = ("fit", "--config", cli_folder / "tiny.yaml", *place)
    code, _, err = cli(*fit, "--model.prompt", "ChatTemplate")
    assert code == 1
    assert "must have a chat template" in err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not run.with_name(f"{run.name}.1").exists()


def test_refuses_to_train_nothing(cli: CLI, cli_folder: Path, tmp_path: Path) -> None:
    frozen = ("--trainer.callbacks+=Freeze", "--trainer.callbacks.parts")
    parts = "[encoder, connector, language_model]"
    place = ("--trainer.default_root_dir", tmp_path / "new")
    code, _, err = cli("fit", "--config", cli_folder / "tiny.yaml", *place, *frozen, parts)
    assert code == 1
    assert "some part must train, got all of them frozen" in err
