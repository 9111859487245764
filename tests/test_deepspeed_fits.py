"""Stages under DeepSpeed, whose engine runs on the CPU here (ZeRO 2 and 3, two gloo processes)."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from torch import Tensor
from torch.testing import assert_close

from lit_vlm.callbacks import (
    PartLR,
    PretrainedLR,
    RNGState,
    Stage,
    StagedFreezing,
    TrainableReport,
)
from lit_vlm.checkpoints import is_deepspeed_checkpoint
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.deepspeed_engine import check_accumulation
from lit_vlm.deepspeed_fits import fit_stages
from lit_vlm.model import VisionLanguageModel

MakeModel = Callable[..., VisionLanguageModel]
TwoRanks = Callable[[Callable[[], Any]], list[Any]]

STAGES = {
    "align": Stage(trains=["connector"], steps=3, learning_rate=0.02),
    "tune": Stage(
        trains=["connector", "language_model.model.layers.1"], steps=3, schedule="cosine"
    ),
    "all": Stage(trains=["encoder", "connector", "language_model"], steps=3, warmup=2),
}

LOWER = PretrainedLR({"language_model": PartLR(multiplier=0.5, layer_decay=0.9)})


class CPUDeepSpeed(DeepSpeedStrategy):
    """Lightning takes DeepSpeed for CUDA's alone; its engine has an accelerator for the CPU."""

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu", 0)

    def setup_environment(self) -> None:
        DDPStrategy.setup_environment(self)

    def setup_distributed(self) -> None:
        reset_seed()
        self.set_world_ranks()
        self._init_deepspeed_distributed()


class Recorder(Callback):
    """Keep the losses and the learning rates of the steps; save in the middle of a stage."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        self.rates.append(float(trainer.callback_metrics["lr/connector"]))
        if trainer.global_step == 4:
            trainer.save_checkpoint(Path(trainer.default_root_dir, "checkpoints", "middle.ckpt"))


def weights_of(model: LightningModule, zero: int) -> dict[str, Tensor]:
    if zero != 3:
        return {name: weight.detach().clone() for name, weight in model.named_parameters()}
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def train(
    make: MakeModel, path: Path, zero: int, folder: Path, ckpt_path: Path | None = None
) -> dict[str, Any]:
    """Train in two processes under ZeRO, or DDP for ``zero=0``."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    recorder = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy=CPUDeepSpeed(stage=zero, overlap_comm=False) if zero else "ddp",
        callbacks=[StagedFreezing(STAGES), RNGState(), TrainableReport(2), LOWER, recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        max_epochs=-1,
        default_root_dir=str(folder),
    )
    model = make(learning_rate=0.01, sizes={"attention_dropout": 0.1})
    data = ConversationDataModule(train=JSONConversations(path), batch_size=2)
    fit_stages(trainer, model, data, ckpt_path=ckpt_path)
    weights = weights_of(model, zero)
    return {"losses": recorder.losses, "rates": recorder.rates, "weights": weights}


deepspeed = [
    pytest.mark.deepspeed,
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs the extra deepspeed"),
    pytest.mark.filterwarnings("default"),  # its own, of torch's names that are to go
]
ZERO = [pytest.param(2, marks=deepspeed), pytest.param(3, marks=deepspeed)]


@pytest.mark.parametrize("zero", ZERO)
def test_an_engine_for_each_stage_trains_like_ddp(
    tiny_model: MakeModel,
    color_questions: Callable[[list[bool]], Path],
    two_ranks: TwoRanks,
    tmp_path: Path,
    zero: int,
) -> None:
    path = color_questions([True, False, True, True] * 4)
    expected, _ = two_ranks(lambda: train(tiny_model, path, 0, tmp_path / "ddp"))
    first, second = two_ranks(lambda: train(tiny_model, path, zero, tmp_path / "deepspeed"))
    assert len(expected["losses"]) == 9
    for found in (first, second):
        assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("zero", ZERO)
@pytest.mark.parametrize(("name", "step"), [("stage-align", 3), ("middle", 4), ("stage-tune", 6)])
def test_a_resumed_run_goes_on_in_its_stage(
    tiny_model: MakeModel,
    color_questions: Callable[[list[bool]], Path],
    two_ranks: TwoRanks,
    tmp_path: Path,
    zero: int,
    name: str,
    step: int,
) -> None:
    path = color_questions([True] * 16)
    whole, _ = two_ranks(lambda: train(tiny_model, path, zero, tmp_path))
    saved = tmp_path / "checkpoints" / f"{name}.ckpt"
    rest, _ = two_ranks(lambda: train(tiny_model, path, zero, tmp_path, ckpt_path=saved))
    assert rest["losses"] == whole["losses"][step:]
    assert_close(rest["weights"], whole["weights"], rtol=0, atol=0)


@pytest.mark.parametrize("zero", ZERO)
def test_one_command_trains_every_stage(cli_folder: Path, tmp_path: Path, zero: int) -> None:
    plan = {"one": {"trains": ["connector"], "steps": 3}, "two": {"trains": ["language_model"]}}
    words = [
        *("--config", str(cli_folder / "tiny.yaml")),
        *("--trainer.default_root_dir", str(tmp_path / "run")),
        *("--trainer.strategy", f"{Path(__file__).stem}.{CPUDeepSpeed.__name__}"),
        *("--trainer.strategy.stage", str(zero)),
        *("--staged_freezing.stages", json.dumps(plan)),
    ]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-m", "lit_vlm", "fit", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "run" / "metrics.csv") as file:
        stages = [row["stage"] for row in csv.DictReader(file) if row["stage"]]
    assert stages == ["1.0"] * 3 + ["2.0"]  # two epochs of two steps
    assert is_deepspeed_checkpoint(tmp_path / "run" / "checkpoints" / "stage-one.ckpt")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trainer]:
    """Make trainers that believe to have a DeepSpeed engine, which is not installed."""

    def make(callback: Callback, **options: Any) -> Trainer:
        trainer = Trainer(
            accelerator="cpu",
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            max_steps=1,
            **options,
        )
        strategy: Any = DeepSpeedStrategy.__new__(DeepSpeedStrategy)
        strategy.config = {}
        monkeypatch.setattr(type(trainer), "strategy", property(lambda trainer: strategy))
        return trainer

    return make


def test_refuses_several_stages_in_one_fit(
    engine: Callable[..., Trainer], tiny_model: MakeModel
) -> None:
    staged = StagedFreezing(STAGES)
    with pytest.raises(ValueError, match=r"must train one stage, got 3: .*\.fit_stages\(trainer"):
        staged.setup(engine(staged), tiny_model(), "fit")


@pytest.mark.parametrize("options", [{"keep_optimizer": True}, {"accumulate_grad_batches": 2}])
def test_refuses_stages_that_an_engine_of_their_own_cannot_train(
    engine: Callable[..., Trainer], tiny_model: MakeModel, options: dict[str, Any]
) -> None:
    staged = StagedFreezing({"align": Stage(trains=["connector"], steps=1, **options)})
    with pytest.raises(ValueError, match=f"under DeepSpeed .* got {next(iter(options))} for"):
        staged.setup(engine(staged), tiny_model(), "fit")


def test_refuses_accumulated_batches_whose_tokens_an_engine_cannot_weigh(
    engine: Callable[..., Trainer], tiny_model: MakeModel
) -> None:
    trainer = engine(StagedFreezing(), accumulate_grad_batches=2)
    with pytest.raises(ValueError, match="accumulate_grad_batches must be 1, .* got 2"):
        check_accumulation(tiny_model(), trainer)


def test_refuses_to_resume_outside_of_the_plan(
    engine: Callable[..., Trainer], tiny_model: MakeModel, tmp_path: Path
) -> None:
    torch.save({"callbacks": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"a stage of its plan \(align, tune, all\), got None"):
        fit_stages(engine(StagedFreezing(STAGES)), tiny_model(), ckpt_path=tmp_path / "other.ckpt")
