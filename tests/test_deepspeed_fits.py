"""Stages under DeepSpeed, whose engine runs on the CPU here (ZeRO 2 and 3, two gloo processes)."""

import os
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
from lit_vlm.data import ConversationDataModule, JSONConversations
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
    """Keep the losses and the rates of the steps."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[list[float]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        groups = trainer.optimizers[0].param_groups
        self.rates.append(sorted({group["lr"] for group in groups if len(group["params"])}))


def weights_of(model: LightningModule, zero: int) -> dict[str, Tensor]:
    if zero != 3:
        return {name: weight.detach().clone() for name, weight in model.named_parameters()}
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def train(
    make: MakeModel,
    path: Path,
    zero: int,
    folder: Path,
    fit: Callable[..., None] = fit_stages,
    ckpt_path: Path | None = None,
    callbacks: tuple[Callback, ...] = (),
) -> dict[str, Any]:
    os.environ["DS_ACCELERATOR"] = "cpu"
    recorder = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy=CPUDeepSpeed(stage=zero, overlap_comm=False) if zero else "ddp",
        callbacks=[StagedFreezing(STAGES), RNGState(), TrainableReport(2), *callbacks, recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        max_epochs=-1,
        default_root_dir=str(folder),
    )
    source = JSONConversations(path)
    model = make(learning_rate=0.01, sizes={"attention_dropout": 0.1})
    fit(trainer, model, ConversationDataModule(train=source, batch_size=2), ckpt_path=ckpt_path)
    return {
        "losses": recorder.losses,
        "weights": weights_of(model, zero),
        "step": trainer.global_step,
    }


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
@pytest.mark.parametrize("stage", ["align", "tune"])
def test_goes_on_from_the_end_of_a_stage(
    tiny_model: MakeModel,
    color_questions: Callable[[list[bool]], Path],
    two_ranks: TwoRanks,
    tmp_path: Path,
    zero: int,
    stage: str,
) -> None:
    path = color_questions([True] * 16)
    whole, _ = two_ranks(lambda: train(tiny_model, path, zero, tmp_path))
    saved = tmp_path / "checkpoints" / f"stage-{stage}.ckpt"
    rest, _ = two_ranks(lambda: train(tiny_model, path, zero, tmp_path, ckpt_path=saved))
    assert rest["losses"] == whole["losses"][3 if stage == "align" else 6 :]
    assert_close(rest["weights"], whole["weights"], rtol=0, atol=0)
