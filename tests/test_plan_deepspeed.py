"""Plans against DeepSpeed's engine, which runs on the CPU here (two gloo processes)."""

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

from lit_vlm.callbacks import Freeze
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.model import VisionLanguageModel
from lit_vlm.plan import make_plan

MakeModel = Callable[..., VisionLanguageModel]
MakeData = Callable[[list[bool]], Path]
TwoRanks = Callable[[Callable[[], Any]], list[Any]]

FROZEN = ["encoder", "language_model.model.layers.0"]
pytestmark = [
    pytest.mark.deepspeed,
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs the extra deepspeed"),
    pytest.mark.filterwarnings("default"),  # its own, of torch's names that are to go
]


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


class Scales(Callback):
    """Weigh what the engine of a process holds after its only step, and its gradients before."""

    def __init__(self, zero: int) -> None:
        self.zero = zero
        self.held: dict[str, int] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        engine: Any = trainer.strategy.model
        if self.zero == 3:
            return
        zero, whole = engine.optimizer, self.zero == 1
        # At the end of the backward pass all gradients are there, in the end those of a share.
        moment = "independent_gradient_partition_epilogue" if whole else "step"
        original = getattr(zero, moment)

        def weighing(*args: Any, **kwargs: Any) -> Any:
            shares = [g for group in zero.averaged_gradients.values() for g in group or ()]
            wholes = [p.grad for group in zero.bit16_groups for p in group if p.grad is not None]
            self.held["gradients"] = sum(g.nbytes for g in (wholes if whole else shares))
            return original(*args, **kwargs)

        setattr(zero, moment, weighing)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        engine: Any = trainer.strategy.model
        weights: list[Any] = list(pl_module.parameters())
        zero = engine.optimizer
        states = [s for state in zero.optimizer.state.values() for s in state.values()]
        if self.zero == 3:
            copies = zero.fp32_partitioned_groups_flat
            self.held["gradients"] = zero.grad_partitions_flat_buffer.nbytes
            self.held["weights"] = sum(w.ds_tensor.nbytes + w.data.nbytes for w in weights)
        else:
            copies = zero.single_partition_of_fp32_groups
            self.held["weights"] = sum(w.nbytes for w in weights)
        self.held["optimizer"] = sum(tensor.nbytes for tensor in [*states, *copies])


def one_step(
    make: MakeModel, path: Path, folder: Path, zero: int, precision: Any
) -> dict[str, int]:
    os.environ["DS_ACCELERATOR"] = "cpu"
    scales = Scales(zero)
    strategy = CPUDeepSpeed(stage=zero, overlap_comm=False)
    strategy.config.setdefault("train_micro_batch_size_per_gpu", 1)  # type: ignore[union-attr]
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        precision=precision,
        callbacks=[Freeze(FROZEN), scales],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        max_steps=1,
        default_root_dir=str(folder),
    )
    data = ConversationDataModule(train=JSONConversations(path), batch_size=2)
    trainer.fit(make(), data)
    return scales.held


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("zero", [1, 2, 3])
def test_each_process_holds_what_was_planned(
    tiny_model: MakeModel,
    color_questions: MakeData,
    two_ranks: TwoRanks,
    tmp_path: Path,
    zero: int,
    precision: str,
) -> None:
    path = color_questions([True] * 8)
    found = two_ranks(lambda: one_step(tiny_model, path, tmp_path / "run", zero, precision))
    freeze = {"class_path": "lit_vlm.callbacks.Freeze", "init_args": {"parts": FROZEN}}
    trainer = {"callbacks": [freeze], "max_steps": 1, "max_epochs": None, "precision": precision}
    plan = make_plan({"trainer": trainer, "model": tiny_model().init_config}, ranks=2)
    memory = plan.stages[0].memory[f"deepspeed_stage_{zero}"]
    for held in found:
        assert held["weights"] == memory.weights
        assert held["gradients"] == memory.gradients
        # The number of steps of each of its groups of weights stands beside them.
        assert 0 < held["optimizer"] - memory.optimizer <= 4 * 4
