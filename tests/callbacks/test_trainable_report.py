import csv
import math
import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import start_processes
from torch.utils.data import DataLoader

from lit_vlm.callbacks import Freeze, RNGState, TrainableReport
from lit_vlm.callbacks.staged_freezing import StagedFreezing
from lit_vlm.csv_logger import AppendingCSVLogger
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.language_models.lora import apply_lora
from lit_vlm.model import VisionLanguageModel
from lit_vlm.stages import Stage

MakeModel = Callable[..., VisionLanguageModel]
MakeData = Callable[[list[bool]], Path]


class Classifier(LightningModule):
    """Somebody else's module; its forward is called with features of width 4."""

    def __init__(self, rate: float = 0.1, decay: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rate, self.decay = rate, decay
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.body(rows)) * self.scale

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.rate, weight_decay=self.decay)


def fit(
    model: LightningModule, folder: Path, *callbacks: Callback, steps: int = 6, **options: Any
) -> Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "max_steps": steps,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "default_root_dir": str(folder),
        "callbacks": list(callbacks),
    }
    trainer = Trainer(**{**settings, **options})
    rows: Any = torch.randn(160, 4, generator=torch.Generator().manual_seed(0))
    trainer.fit(model, DataLoader(rows, batch_size=4))
    return trainer


def column(table: str, place: int) -> list[str]:
    rows = [line.strip("│").split("│") for line in table.splitlines() if "│" in line]
    return [row[place].strip() for row in rows]


def half() -> MixedPrecision:
    """Mixed precision in 16 bits, whose gradients are scaled; by name it is for GPUs only."""
    return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=64.0))


def freeze_weights_only(model: Classifier) -> Classifier:
    model.body.requires_grad_(False)
    return model


# The table


def test_tells_what_trains_before_the_first_step(
    tiny_model: MakeModel,
    color_questions: MakeData,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    model = tiny_model(learning_rate=0.02, weight_decay=0.3)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=str(tmp_path),
        callbacks=[Freeze(["encoder"]), TrainableReport()],
    )
    data = ConversationDataModule(train=JSONConversations(color_questions([True] * 2)))
    trainer.fit(model, data)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "what trains"
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]
    eye, fusion, connector, voice = rows
    count = sum(p.numel() for p in model.encoder.parameters())
    assert eye == ["encoder", "TimmEncoder", f"{count:,}", "0", "float32", "-", "-"]
    assert fusion == ["fusion", "PickLevel", "0", "0", "-", "-", "-"]
    count = sum(p.numel() for p in model.connector.parameters())
    assert connector[2:] == [f"{count:,}", f"{count:,}", "float32", "0.02", "0.3, 0"]
    assert voice[5:] == ["0.02", "0.3, 0"]


def test_prints_a_table_where_each_stage_begins_wherever_it_stands_among_the_callbacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Steps(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            print(f"step {trainer.global_step} done")

    stages = {
        "align": Stage(trains=["head"], steps=3, learning_rate=0.5),
        "tune": Stage(trains=["*"], learning_rate=0.25),
    }
    callbacks = (TrainableReport(), StagedFreezing(stages, save_stages=False), Steps())
    fit(Classifier(), tmp_path, *callbacks, steps=8)
    before, align, tune = capsys.readouterr().out.split("what trains: ")
    assert "what trains" not in before
    assert align.startswith("stage align (1 of 2, steps 0-2)")
    assert align.split()[-3:] == ["step", "3", "done"]
    assert tune.startswith("stage tune (2 of 2, steps 3-7)")
    assert column(align, 3) == ["0", "10", "0"]
    assert column(tune, 5) == ["0.25"] * 3


def test_of_several_reports_the_first_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = TrainableReport(check_after=0), TrainableReport()
    trainer = fit(Classifier(rate=0.0), tmp_path, first, RNGState(), second)
    assert capsys.readouterr().out.count("what trains") == 1
    assert second not in trainer.callbacks  # type: ignore[attr-defined]


# Failures, which TrainableReport makes errors


def test_a_model_that_does_as_it_says_passes_in_silence(tmp_path: Path) -> None:
    report = TrainableReport()
    fit(Classifier(), tmp_path, Freeze(["body"]), report)  # a warning is an error here
    assert report._check is None


def test_statistics_that_move_in_a_frozen_part_are_an_error(tmp_path: Path) -> None:
    message = r"(?s)body is frozen, but 3 tensors: body\.1\.running_mean, .* changed"
    with pytest.raises(ValueError, match=message):
        fit(freeze_weights_only(Classifier()), tmp_path, TrainableReport())


class Decaying(Classifier):
    """Zeroes gradients instead of dropping them, so that frozen weights decay."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        for parameter in self.body.parameters():
            parameter.grad = torch.zeros_like(parameter)


def test_weights_that_decay_though_frozen_are_an_error(tmp_path: Path) -> None:
    model = Decaying(decay=0.1)
    message = r"body is frozen, but \d tensors: body\.0\.weight, body\.0\.bias, .*changed"
    with pytest.raises(ValueError, match=message):
        fit(model, tmp_path, Freeze(["body"]), TrainableReport())


class CutOff(Classifier):
    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.body(rows).detach()) * self.scale


def test_a_part_that_the_loss_does_not_reach_is_an_error(tmp_path: Path) -> None:
    message = r"body trains, but no gradient reached it \(4 parameters: body\.0\.weight, "
    with pytest.raises(ValueError, match=message):
        fit(CutOff(), tmp_path, TrainableReport())


def test_a_learning_rate_of_zero_is_an_error(tmp_path: Path) -> None:
    message = r"(?s)body trains and had gradients, but did not move .* learning rate was 0"
    with pytest.raises(ValueError, match=message):
        fit(Classifier(rate=0.0), tmp_path, TrainableReport())


class HeadOnly(Classifier):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([*self.head.parameters(), self.scale], lr=0.1)


def test_a_part_that_no_optimizer_has_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)body trains and had .* No optimizer has its param"):
        fit(HeadOnly(), tmp_path, TrainableReport())


def test_steps_that_16_bits_cannot_show_are_an_error(tmp_path: Path) -> None:
    model = Classifier(rate=1e-9).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)  # next to 0 the smallest step shows
    with pytest.raises(ValueError, match=r"(?s)head trains and had .* are the weights in 16 bits"):
        fit(model, tmp_path, TrainableReport(), precision="bf16-true")


def test_a_failure_can_be_a_warning_and_the_check_can_be_off(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="learning rate was 0"):
        fit(Classifier(rate=0.0), tmp_path, TrainableReport(on_failure="warn"))
    fit(Classifier(rate=0.0), tmp_path, TrainableReport(check_after=0))


def test_a_failure_names_the_stage_and_comes_at_its_end_if_that_is_sooner(tmp_path: Path) -> None:
    stages = {
        "align": Stage(trains=["head"], steps=3),
        "tune": Stage(trains=["body", "head"], steps=2),
        "more": Stage(trains=["head"]),
    }
    callbacks = (StagedFreezing(stages, save_stages=False), TrainableReport())
    trainer_steps: list[int] = []

    class Steps(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            trainer_steps.append(trainer.global_step)

    with pytest.raises(ValueError, match="after 2 optimizer steps of stage tune"):
        fit(CutOff(), tmp_path, *callbacks, Steps(), steps=9)
    assert trainer_steps == [0, 1, 2, 3, 4]


# What is no failure


def test_a_warm_up_that_begins_at_zero_is_no_failure(tmp_path: Path) -> None:
    class WarmingUp(Classifier):
        def configure_optimizers(self) -> Any:
            made = super().configure_optimizers()
            rates = torch.optim.lr_scheduler.LambdaLR(made, lambda step: min(1.0, step / 4))
            return [made], [{"scheduler": rates, "interval": "step"}]

    fit(WarmingUp(), tmp_path, TrainableReport())
    fit(WarmingUp(), tmp_path, TrainableReport(), steps=1)


def test_a_single_parameter_that_is_not_used_is_a_warning(tmp_path: Path) -> None:
    model = Classifier()
    model.head.register_parameter("spare", nn.Parameter(torch.zeros(2)))
    with pytest.warns(UserWarning, match=r"head: no gradient reached 1 parameter: head\.spare"):
        fit(model, tmp_path, TrainableReport())


def test_gradients_that_are_all_zero_are_a_warning(tmp_path: Path) -> None:
    class TextOnly(Classifier):
        def forward(self, rows: Tensor) -> Tensor:
            return self.head(rows + 0.0 * self.body(rows)) * self.scale

    with pytest.warns(UserWarning, match="body: all gradients were 0"):
        fit(TextOnly(), tmp_path, TrainableReport())


def test_steps_that_a_gradient_scaler_skips_do_not_count(tmp_path: Path) -> None:
    class Overflowing(Classifier):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * (torch.inf if batch_idx < 3 else 1.0)

    report = TrainableReport(check_after=2)
    fit(Overflowing(), tmp_path, Freeze(["body"]), report, steps=3, plugins=half())
    assert report._check is not None
    fit(Overflowing(), tmp_path, Freeze(["body"]), report, steps=5, plugins=half())
    assert report._check is None


def test_an_optimizer_that_has_not_stepped_yet_is_not_judged(tmp_path: Path) -> None:
    class Alternating(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def configure_optimizers(self) -> Any:
            body = torch.optim.SGD(self.body.parameters(), lr=0.1)
            return body, torch.optim.SGD([*self.head.parameters(), self.scale], lr=0.1)

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            both: Any = self.optimizers()
            head = both[1]
            head.zero_grad()
            loss = super().training_step(batch, batch_idx)
            self.manual_backward(loss)
            head.step()
            return loss

    fit(Alternating(), tmp_path, TrainableReport())


def test_counts_optimizer_steps_when_gradients_are_accumulated(tmp_path: Path) -> None:
    report = TrainableReport(check_after=2)
    batches = []

    class Watch(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            batches.append(report._check is not None)

    fit(Classifier(), tmp_path, report, Watch(), steps=3, accumulate_grad_batches=2)
    assert batches == [True, True, True, False, False, False]


def test_checks_again_when_a_run_goes_on(tmp_path: Path) -> None:
    report = TrainableReport(check_after=1)
    fit(Classifier(), tmp_path, report, steps=2)
    with pytest.raises(ValueError, match="no gradient reached it"):
        fit(CutOff(), tmp_path, report, steps=2)


def test_adapters_and_new_tokens_of_a_language_model_pass(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path
) -> None:
    model: Any = tiny_model()
    model.language_model.add_tokens(["<new>"])
    apply_lora(model.language_model.model, {"r": 2, "target_modules": ["q_proj"]})
    report = TrainableReport()
    stages = {"tune": Stage(trains=["connector", "language_model"], steps=6)}
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=9,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(tmp_path),
        callbacks=[report, StagedFreezing(stages, save_stages=False)],
    )
    data = ConversationDataModule(train=JSONConversations(color_questions([True] * 8)))
    trainer.fit(model, data)
    assert trainer.global_step == 6
    assert report._check is None
    trained = {name for name, p in model.language_model.named_parameters() if p.requires_grad}
    assert {name.split(".")[-1] for name in trained} == {"weight", "read", "written"}
    assert all("lora_" in name or "new_tokens" in name for name in trained)


def test_refuses_a_negative_number_of_steps() -> None:
    with pytest.raises(ValueError, match="check_after must be a number of steps"):
        TrainableReport(check_after=-1)


# Gradient norms


def test_logs_the_gradient_norm_of_each_part_before_it_is_clipped(tmp_path: Path) -> None:
    model, norms = Classifier(), []

    class Reader(Callback):
        def on_before_optimizer_step(self, *_: Any) -> None:
            gradients = [p.grad.flatten() for p in model.head.parameters() if p.grad is not None]
            norms.append(float(torch.cat(gradients).norm()))

    logger = AppendingCSVLogger(tmp_path)
    how: dict[str, Any] = {"logger": logger, "gradient_clip_val": 1e-3, "log_every_n_steps": 2}
    fit(model, tmp_path, Freeze(["body"]), TrainableReport(), Reader(), steps=4, **how)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "3"]
    assert [float(row["grad_norm/head"]) for row in rows] == pytest.approx([norms[1], norms[3]])
    assert [float(row["grad_norm/body"]) for row in rows] == [0.0, 0.0]
    assert all(float(row["grad_norm/scale"]) > 0 for row in rows)


def test_changes_no_result(tmp_path: Path) -> None:
    plain, watched = Classifier(), Classifier()
    fit(plain, tmp_path)
    fit(watched, tmp_path, TrainableReport())
    for one, other in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("fused", [False, True])
def test_norms_are_those_of_the_loss_when_gradients_are_scaled(tmp_path: Path, fused: bool) -> None:
    class Adam(Classifier):
        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=0.01, fused=fused)

    def norm(**options: Any) -> float:
        trainer = fit(Adam(), tmp_path, TrainableReport(), steps=1, **options)
        return float(trainer.callback_metrics["grad_norm/head"])

    assert norm(plugins=half()) == pytest.approx(norm(), rel=2e-2)


# Two processes


class Sharded(Classifier):
    def configure_model(self) -> None:
        mesh = self.device_mesh
        if mesh is not None and not hasattr(self.head, "unshard"):
            fully_shard(self.body, mesh=mesh["data_parallel"])
            fully_shard(self.head, mesh=mesh["data_parallel"])
            fully_shard(self, mesh=mesh["data_parallel"])


class ShardedCutOff(Sharded):
    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.body(rows).detach()) * self.scale


def _rank(rank: int, port: int, folder: Path, strategy: str, broken: bool) -> None:
    names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 2}
    os.environ.update({k: str(v) for k, v in {**names, "NODE_RANK": 0, "LOCAL_RANK": rank}.items()})
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    kind: Any = "ddp"
    if strategy == "fsdp2":
        kind = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
    if broken and strategy == "ddp":
        kind = "ddp_find_unused_parameters_true"
    model = ShardedCutOff() if broken else Sharded()
    model.scale = nn.Parameter(torch.ones(1))
    norms: list[float] = []
    said = "nothing"

    class Reader(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            metrics = trainer.callback_metrics
            squares = [float(v) ** 2 for k, v in metrics.items() if k.startswith("grad_norm/")]
            norms.append(math.sqrt(sum(squares)))

    try:
        options: dict[str, Any] = {"strategy": kind, "devices": 2, "use_distributed_sampler": False}
        fit(model, folder, TrainableReport(check_after=2), Reader(), steps=3, **options)
    except ValueError as error:
        said = str(error)
    torch.save({"norms": norms, "said": said}, folder / f"{rank}.pt")


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.parametrize("broken", [False, True])
def test_all_ranks_find_the_same_and_measure_whole_gradients(
    tmp_path: Path, strategy: str, broken: bool
) -> None:
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    start_processes(_rank, (port, tmp_path, strategy, broken), nprocs=2, start_method="fork")
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    if broken:
        assert "body trains, but no gradient reached it" in ranks[0]["said"]
        return
    assert ranks[0]["said"] == "nothing"
    alone: list[float] = []

    class Reader(Callback):
        def on_before_optimizer_step(self, *_: Any) -> None:
            total = sum(
                float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None
            )
            alone.append(math.sqrt(total))

    model = Classifier()
    model.scale = nn.Parameter(torch.ones(1))
    fit(model, tmp_path, Reader(), steps=3)  # both ranks see the same rows
    assert ranks[0]["norms"] == pytest.approx(alone, rel=1e-4)
