import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, random_split

from lit_vlm.callbacks import BestCheckpoint, CheckpointSelection, LastCheckpoint
from lit_vlm.checkpoints import load_model
from lit_vlm.csv_logger import AppendingCSVLogger
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.model import VisionLanguageModel

CLI = Callable[..., tuple[int, str, str]]


class Points(LightningDataModule):
    """Somebody else's data: a direction decides the class, but for a share of wrong labels."""

    def __init__(self, wrong: float = 0.0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        points = torch.randn(265, 8, generator=random)
        classes = (points[:, 0] > 0).long()
        flipped = torch.rand(len(classes), generator=random) < wrong
        classes = torch.where(flipped, 1 - classes, classes)
        rows = TensorDataset(points, classes, torch.arange(len(classes)))
        self.splits = random_split(rows, [64, 100, 101], random)

    def train_dataloader(self) -> Any:
        order = torch.Generator().manual_seed(0)
        return DataLoader(self.splits[0], batch_size=32, shuffle=True, generator=order)

    def val_dataloader(self) -> Any:
        return DataLoader(self.splits[1], batch_size=50)

    def selection_dataloader(self) -> Any:
        return DataLoader(self.splits[2], batch_size=50)


class Classifier(LightningModule):
    """Somebody else's module."""

    returns: tuple[str, ...] = ("scores", "index", "groups")

    def __init__(self, learning_rate: float = 0.01, scored_by: str = "loss") -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
        self.learning_rate = learning_rate
        self.scored_by = scored_by

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return functional.cross_entropy(self.layers(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        points, classes, index = batch
        guessed = self.layers(points)
        losses = functional.cross_entropy(guessed, classes, reduction="none")
        self.log("val/loss", losses.mean())
        right = (guessed.argmax(1) == classes).float()
        scores = -losses if self.scored_by == "loss" else right
        made = {"scores": scores, "index": index, "groups": index // 2}
        return {name: made[name] for name in self.returns}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)


class Scripted(Classifier):
    """Its monitored figure follows a script that is best in the first epoch."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        scores = super().validation_step(batch, batch_idx)
        self.log("val/scripted", float(self.current_epoch))
        return scores


class Swinging(Scripted):
    """It jumps from one side of the right answer to the other, and never comes nearer."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.0)
        self.layers = nn.Sequential(nn.Linear(8, 2, bias=False))

    def on_train_epoch_start(self) -> None:
        aim, off = torch.zeros(2, 2, 8)
        aim[1, 0], off[1, 1] = 3.0, 9.0 * (-1) ** self.current_epoch
        self.layers[0].weight.data = aim + off


class Script(Callback):
    """Log a figure that is best in the first epoch."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("val/scripted", float(trainer.current_epoch))


class Recorder(Callback):
    """Note which hooks are called, as a callback that prints or writes would."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def on_validation_batch_end(self, trainer: Trainer, *arguments: Any, **others: Any) -> None:
        self.called.append("batch")

    def on_load_checkpoint(self, trainer: Trainer, *arguments: Any) -> None:
        self.called.append("load")


def make_trainer(
    folder: Path, *callbacks: Callback, epochs: int = 30, monitor: str = "val/loss", **options: Any
) -> Trainer:
    mode: Literal["max", "min"] = "max" if monitor == "val/accuracy" else "min"
    kept = [BestCheckpoint(monitor, mode), LastCheckpoint(1000)]
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=str(folder),
        callbacks=[*callbacks, *kept],
        **{"logger": False, "devices": 1, **options},
    )


def fit_and_select(
    folder: Path,
    model: LightningModule,
    data: LightningDataModule,
    selection: CheckpointSelection | None = None,
    **options: Any,
) -> dict[str, Any]:
    selection = selection or CheckpointSelection()
    trainer = make_trainer(folder, selection, **options)
    trainer.fit(model, data)
    return selection.select(trainer, model, data)


def classifier(**options: Any) -> Classifier:
    seed_everything(0, verbose=False)
    return Classifier(**options)


def weights_in(folder: Path, name: str) -> dict[str, Tensor]:
    content = torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)
    return dict(content["state_dict"])


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_best_wins_a_run_that_overfits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = fit_and_select(tmp_path, classifier(), Points(wrong=0.3))
    [found] = record["differences"]
    scores = {name: made["score"] for name, made in record["candidates"].items()}
    assert record["choice"] == "best"
    assert found["low"] > 0
    assert found["low"] < found["value"] < found["high"]
    assert found["value"] == pytest.approx(scores["best"] - scores["last"])
    assert (record["items"], record["split"]) == (101, "selection")
    assert 51 <= record["groups"] < 101
    steps = [record["candidates"][name]["step"] for name in ("best", "last")]
    assert steps[0] < steps[1] == 60
    assert json.loads((tmp_path / "checkpoints.json").read_text()) == record
    assert same(weights_in(tmp_path, "selected"), weights_in(tmp_path, "best"))
    printed = capsys.readouterr().out
    assert "chose neither" in printed
    assert "101" in printed
    assert "excludes zero in favour of best" in printed


def test_last_is_kept_of_a_run_that_keeps_improving(tmp_path: Path) -> None:
    record = fit_and_select(tmp_path, classifier(learning_rate=0.001), Points(), epochs=10)
    assert record["choice"] == "last"
    assert list(record["candidates"]) == ["last"]
    assert record["reason"] == "best and last are the same state, that of step 20"
    assert record["differences"] == []
    assert same(weights_in(tmp_path, "selected"), weights_in(tmp_path, "last"))


def test_last_wins_where_validation_misled(tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    model = Scripted(learning_rate=0.001)
    record = fit_and_select(tmp_path, model, Points(), epochs=20, monitor="val/scripted")
    assert record["candidates"]["best"]["step"] == 2
    assert record["choice"] == "last"
    assert record["differences"][0]["high"] < 0
    assert record["reason"].endswith("excludes zero in favour of last")


def test_a_tie_keeps_last_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Half of the labels are wrong: there is nothing to learn.
    record = fit_and_select(tmp_path, classifier(scored_by="accuracy"), Points(wrong=0.5))
    [found] = record["differences"]
    assert found["low"] < 0 < found["high"]
    assert record["choice"] == "last"
    assert "includes zero: a tie, which keeps last" in capsys.readouterr().out


def test_leaves_logs_callbacks_limits_and_weights_as_they_were(tmp_path: Path) -> None:
    model, data, recorder, selection = classifier(), Points(0.3), Recorder(), CheckpointSelection()
    logger = AppendingCSVLogger(tmp_path)
    trainer: Any = make_trainer(tmp_path, recorder, selection, logger=logger)
    trainer.fit(model, data)
    logger.save()
    trainer.limit_val_batches = 1
    callbacks, called = list(trainer.callbacks), list(recorder.called)
    states = [callback.state_dict() for callback in callbacks]
    metrics = (tmp_path / "metrics.csv").read_bytes()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    drawn, environment = torch.get_rng_state(), dict(os.environ)
    record = selection.select(trainer, model, data)
    assert record["items"] == 101
    assert (trainer.callbacks, trainer.loggers) == (callbacks, [logger])
    assert [callback.state_dict() for callback in callbacks] == states
    assert (trainer.limit_val_batches, recorder.called) == (1, called)
    assert same(weights, model.state_dict())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert dict(os.environ) == environment
    assert vars(data).keys().isdisjoint({"setup", "teardown", "val_dataloader", "load_state_dict"})
    logger.save()
    assert (tmp_path / "metrics.csv").read_bytes() == metrics
    assert trainer.validate(model, data, verbose=False)


def test_a_later_best_checkpoint_does_not_change_the_selected_one(tmp_path: Path) -> None:
    fit_and_select(tmp_path, classifier(), Points(wrong=0.3), epochs=10)
    chosen = weights_in(tmp_path, "selected")
    trainer = make_trainer(tmp_path, epochs=1)
    trainer.fit(classifier(learning_rate=0.5), Points())
    assert not same(weights_in(tmp_path, "best"), chosen)
    assert same(weights_in(tmp_path, "selected"), chosen)


def test_copies_where_links_are_impossible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    fit_and_select(tmp_path, classifier(), Points(wrong=0.3), epochs=10)
    assert same(weights_in(tmp_path, "selected"), weights_in(tmp_path, "best"))


def test_a_new_fit_removes_what_an_earlier_run_selected(tmp_path: Path) -> None:
    average = CheckpointSelection(average_last=3)
    fit_and_select(tmp_path, classifier(), Points(wrong=0.3), average, epochs=4)
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert {"selected.ckpt", "average.ckpt", "recent-0.ckpt"} <= left
    trainer = make_trainer(tmp_path, CheckpointSelection(), epochs=1)
    trainer.fit(classifier(), Points())
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == {"best.ckpt", "last.ckpt"}
    assert not (tmp_path / "checkpoints.json").exists()


@pytest.mark.parametrize("cut_short", ["fast_dev_run", "interrupted"])
def test_a_run_that_was_cut_short_selects_nothing(tmp_path: Path, cut_short: str) -> None:
    model, data, selection = classifier(), Points(), CheckpointSelection()
    trainer = make_trainer(tmp_path, selection, epochs=2, fast_dev_run=cut_short == "fast_dev_run")
    trainer.fit(model, data)
    if cut_short == "interrupted":
        trainer.state.status = "interrupted"  # type: ignore[assignment]
    assert selection.select(trainer, model, data) == {}
    assert not (tmp_path / "checkpoints.json").exists()


def test_without_scores_there_is_no_interval_and_last_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Classifier, "returns", ())
    record = fit_and_select(tmp_path, classifier(), Points(wrong=0.3))
    assert record["choice"] == "last"
    assert record["candidates"]["best"]["score"] < record["candidates"]["last"]["score"]  # losses
    assert record["differences"][0]["low"] is None
    assert "no interval, since validation_step returns no scores" in capsys.readouterr().out
    assert record["items"] == record["groups"] == 0


def test_items_need_neither_index_nor_groups_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "returns", ("scores",))
    record = fit_and_select(tmp_path, classifier(), Points(wrong=0.3))
    assert (record["items"], record["groups"], record["choice"]) == (101, 101, "best")


def test_an_average_must_beat_the_winner_beyond_doubt(tmp_path: Path) -> None:
    def run(folder: Path, model: LightningModule, data: LightningDataModule) -> dict[str, Any]:
        selection = CheckpointSelection(average_last=4)
        monitor = "val/scripted" if isinstance(model, Scripted) else "val/loss"
        return fit_and_select(folder, model, data, selection, epochs=12, monitor=monitor)

    seed_everything(0, verbose=False)
    swung = run(tmp_path / "swung", Swinging(), Points())
    assert swung["choice"] == "average"
    assert [made["of"] for made in swung["differences"]] == ["best", "average"]
    assert swung["differences"][1]["low"] > 0
    assert swung["candidates"]["average"]["averaged_steps"] == [18, 20, 22, 24]
    made = weights_in(tmp_path / "swung", "average")
    assert same(made, weights_in(tmp_path / "swung", "selected"))
    recent = [weights_in(tmp_path / "swung", f"recent-{i}") for i in range(4)]
    for name, value in made.items():
        wanted = torch.stack([state[name] for state in recent]).mean(0)
        torch.testing.assert_close(value, wanted)
    rising = run(tmp_path / "rising", classifier(learning_rate=0.001), Points())
    assert rising["choice"] == "last"
    assert rising["differences"][0]["of"] == "average"


TWO_PROCESSES = """
import sys
sys.path.insert(0, {tests!r})
from test_checkpoint_selection import *
from lit_vlm.callbacks import CheckpointSelection
selection = CheckpointSelection(average_last=2)
trainer = make_trainer(Path({folder!r}), selection, epochs=10, devices={devices}, strategy="ddp")
model, data = classifier(), Points(wrong=0.3)
trainer.fit(model, data)
record = selection.select(trainer, model, data)
assert record["selected"] == "checkpoints/selected.ckpt", record
assert same(weights_in(Path({folder!r}), "last"), model.state_dict())
"""


@pytest.mark.slow
def test_two_processes_score_each_item_once_and_choose_alike(tmp_path: Path) -> None:
    records = []
    for devices in (2, 1):
        folder = tmp_path / f"run-{devices}"
        places = {"tests": str(Path(__file__).parent), "folder": str(folder), "devices": devices}
        (tmp_path / "script.py").write_text(TWO_PROCESSES.format(**places))
        program = [sys.executable, str(tmp_path / "script.py")]
        done = subprocess.run(program, timeout=240, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("selected: ") == 1
        records.append(json.loads((folder / "checkpoints.json").read_text()))
    assert records[0]["items"] == 101  # an odd number: one of them is repeated to fill a batch
    assert records[0]["groups"] == records[1]["groups"]


@pytest.mark.slow
@pytest.mark.parametrize("in_shards", ["false", "true"])
def test_a_model_that_is_split_among_processes_is_selected_too(
    cli_folder: Path, tmp_path: Path, in_shards: str
) -> None:
    options = {
        "config": cli_folder / "tiny.yaml",
        "data.selection.class_path": "JSONConversations",
        "data.selection.init_args.path": cli_folder / "val.jsonl",
        "best_checkpoint.monitor": "val/loss",
        "best_checkpoint.mode": "max",
        "checkpoint_selection.average_last": 2 if in_shards == "false" else 0,
        "model.learning_rate": 0.01,
        "data.batch_size": 1,
        "trainer.default_root_dir": tmp_path / "run",
        "trainer.devices": 2,
        "trainer.strategy": "StagedModelParallel",
        "trainer.strategy.save_distributed_checkpoint": in_shards,
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    program = [sys.executable, "-m", "lit_vlm", "fit", *words]
    done = subprocess.run(program, timeout=240, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/checkpoints.json").read_text())
    assert ("average" in record["candidates"]) == (in_shards == "false")
    assert record["candidates"]["best"]["step"] < record["candidates"]["last"]["step"]
    assert record["items"] == 4
    assert (tmp_path / "run/checkpoints/selected.ckpt").is_dir() == (in_shards == "true")


def test_says_when_there_is_nothing_to_average(tmp_path: Path) -> None:
    selection = CheckpointSelection(average_last=2)
    record = fit_and_select(tmp_path, classifier(), Points(), selection, epochs=1)
    assert record["reason"] == (
        "best and last are the same state, that of step 2; there are not two states of the same "
        "shapes to average"
    )


def test_scores_another_split_that_is_named(tmp_path: Path) -> None:
    class Tested(Points):
        stages: list[str] = []

        def setup(self, stage: str) -> None:
            self.stages.append(stage)

        def test_dataloader(self) -> Any:
            return [DataLoader(self.splits[2], batch_size=10), self.val_dataloader()]

    selection = CheckpointSelection("test")
    record = fit_and_select(tmp_path, classifier(), Tested(0.3), selection, limit_test_batches=4)
    assert (record["items"], record["split"]) == (40, "test")
    assert Tested.stages == ["fit", "test", "test"]


def test_enters_what_the_module_does_to_be_scored(tmp_path: Path) -> None:
    class OnDemand(Classifier):
        on = False

        @contextmanager
        def scoring(self) -> Iterator[None]:
            self.on = True
            yield
            self.on = False

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
            scores = super().validation_step(batch, batch_idx)
            return scores if self.on else {}

    seed_everything(0, verbose=False)
    model = OnDemand()
    assert fit_and_select(tmp_path, model, Points(wrong=0.3))["items"] == 101
    assert not model.on


@pytest.mark.parametrize("while_training", [True, False])
def test_selects_by_generated_answers(
    tiny_model: Callable[..., VisionLanguageModel],
    color_questions: Callable[[list[bool]], Path],
    tmp_path: Path,
    while_training: bool,
) -> None:
    source = JSONConversations(color_questions([True] * 12))
    monitor = "val/accuracy" if while_training else "val/loss"
    model = tiny_model(learning_rate=0.01, generate_in_validation=while_training)
    data = ConversationDataModule(source, val=0.25, selection=0.25, batch_size=3)
    selection = CheckpointSelection(average_last=2)
    trainer = make_trainer(tmp_path, selection, epochs=3, monitor=monitor)
    trainer.fit(model, data)
    record = selection.select(trainer, model)
    assert record["items"] == len(data.sources["selection"][0]) == 3
    assert (record["groups"], record["choice"]) == (1, "last")  # of four pictures, one is held out
    assert "1 groups of items are too few to tell" in record["reason"]
    assert record["monitor"] == monitor
    assert model.generate_in_validation is while_training
    assert not list(tmp_path.glob("*predictions*"))
    load_model(tmp_path / "checkpoints/average.ckpt")
    load_model(tmp_path / "checkpoints/selected.ckpt")


def test_names_what_could_not_be_scored(
    tiny_model: Callable[..., VisionLanguageModel],
    color_questions: Callable[[list[bool]], Path],
    write_jsonl: Callable[..., Path],
    tmp_path: Path,
) -> None:
    turns = [{"from": "human", "value": "color?"}, {"from": "gpt", "value": "red"}]
    records = [{"id": str(i), "conversations": turns[: 1 + (i > 0)]} for i in range(8)]
    held = JSONConversations(write_jsonl(records, "held.jsonl"), on_bad_sample="skip")
    source = JSONConversations(color_questions([True] * 8))
    data = ConversationDataModule(source, val=0.25, selection=held, batch_size=4)
    selection = CheckpointSelection()
    trainer = make_trainer(tmp_path, Script(), selection, epochs=2, monitor="val/scripted")
    model = tiny_model(learning_rate=0.01, generate_in_validation=False)
    trainer.fit(model, data)
    with pytest.warns(UserWarning, match="1 samples could not be used"):
        record = selection.select(trainer, model)
    assert (record["items"], record["groups"]) == (7, 7)
    lines = (tmp_path / "skipped-selection.jsonl").read_text().splitlines()
    assert [json.loads(line)["sample"] for line in lines] == [0]
    assert not (tmp_path / "skipped-val.jsonl").exists()


def test_is_inactive_without_data_that_chose_nothing(tmp_path: Path) -> None:
    class Bare(Points):
        selection_dataloader = None  # type: ignore[assignment]

    trainer = Trainer(
        accelerator="cpu",
        fast_dev_run=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(tmp_path),
        callbacks=[CheckpointSelection()],
    )
    trainer.fit(classifier(), Bare())


@pytest.mark.parametrize(
    ("selection", "problem"),
    [
        (CheckpointSelection("test"), "split must be one that the data module has, got 'test'"),
        (CheckpointSelection(), "BestCheckpoint must be among the trainer's callbacks, got none"),
    ],
)
def test_says_before_training_what_is_missing(
    tmp_path: Path, selection: CheckpointSelection, problem: str
) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[selection], max_epochs=1)
    with pytest.raises(ValueError, match=problem):
        trainer.fit(classifier(), Points())
    assert trainer.global_step == 0


def test_an_average_needs_data_to_prove_itself_on(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, CheckpointSelection(average_last=2))
    with pytest.raises(ValueError, match="average_last must have data to prove itself on, got 2"):
        trainer.fit(classifier(), DataLoader(Points().splits[0]), DataLoader(Points().splits[1]))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"split": "val"}, "split must be one that chose neither checkpoint, got 'val'"),
        ({"average_last": 1}, "average_last must be 0 or at least 2, got 1"),
        ({"confidence": 1.0}, "confidence must be between 0 and 1 and resamples positive"),
        ({"resamples": 0}, "confidence must be between 0 and 1 and resamples positive"),
    ],
)
def test_refuses_an_argument_out_of_range(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        CheckpointSelection(**options)


def test_refuses_processes_that_end_with_fit(tmp_path: Path) -> None:
    options = {"devices": 2, "strategy": "ddp_spawn"}
    settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, **options}
    callbacks = [BestCheckpoint("val/loss", "min"), LastCheckpoint(), CheckpointSelection()]
    trainer: Any = Trainer(callbacks=callbacks, default_root_dir=str(tmp_path), **settings)
    trainer.datamodule = Points()
    with pytest.raises(ValueError, match="the processes must outlive fit, got a strategy that"):
        callbacks[2].setup(trainer, classifier(), "fit")
