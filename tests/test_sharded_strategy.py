import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.testing import assert_close

from lit_vlm.callbacks import Freeze, RNGState, Stage, StagedFreezing
from lit_vlm.checkpoint_io import AtomicCheckpointIO
from lit_vlm.checkpoints import load_model, read_checkpoint
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.data.sampling import TrainingOrder
from lit_vlm.model import VisionLanguageModel
from lit_vlm.sharded_strategy import StagedModelParallel

MakeModel = Callable[..., VisionLanguageModel]
MakeData = Callable[[list[bool]], Path]
TwoRanks = Callable[[Callable[[], Any]], list[Any]]
Ended = dict[str, Any]


class Recorder(Callback):
    """Keep the losses of the steps; save, if asked to, before some of them."""

    def __init__(self, saves: dict[int, Path]) -> None:
        self.losses: list[float] = []
        self.saves = saves

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step in self.saves:
            trainer.save_checkpoint(self.saves[trainer.global_step])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))


class Runs:
    """Trains on the same questions, in one or two processes, in steps of four samples."""

    def __init__(self, make: MakeModel, path: Path, two_ranks: TwoRanks) -> None:
        self.make = lambda: make(schedule="constant", warmup=0, learning_rate=1e-2)
        self.path = path
        self.two_ranks = two_ranks

    def alone(self, steps: int, *callbacks: Callback, **options: Any) -> Ended:
        return self._fit(steps, callbacks, "auto", 1, **options)

    def ddp(self, steps: int, *callbacks: Callback, **options: Any) -> Ended:
        ended = self.two_ranks(lambda: self._fit(steps, callbacks, "ddp", 2, **options))
        return _same(ended)

    def fsdp2(
        self, steps: int, *callbacks: Callback, in_shards: bool = False, **options: Any
    ) -> Ended:
        def job() -> Ended:
            strategy = StagedModelParallel(save_distributed_checkpoint=in_shards)
            return self._fit(steps, callbacks, strategy, 2, **options)

        return _same(self.two_ranks(job))

    def _fit(
        self,
        steps: int,
        callbacks: tuple[Callback, ...],
        strategy: str | StagedModelParallel,
        devices: int,
        checkpoint: Path | None = None,
        save: dict[int, Path] | None = None,
        **options: Any,
    ) -> Ended:
        recorder = Recorder(save or {})
        source = JSONConversations(self.path)
        trainer = Trainer(
            accelerator="cpu",
            devices=devices,
            strategy=strategy,
            callbacks=[*callbacks, RNGState(), recorder],
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            max_steps=steps,
            max_epochs=-1,
            default_root_dir=self.path.parent,
            **options,
        )
        model = self.make()
        data = ConversationDataModule(train=source, batch_size=4 // devices)
        trainer.fit(model, data, ckpt_path=checkpoint)
        [optimizer] = trainer.optimizers
        weights = dict(model.named_parameters())
        return {
            "losses": recorder.losses,
            "weights": {name: whole(weight) for name, weight in weights.items()},
            "steps": {
                name: int(optimizer.state[weight]["step"])
                for name, weight in weights.items()
                if optimizer.state.get(weight)
            },
        }


def whole(value: Tensor) -> Tensor:
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach()


def _same(ended: list[Ended]) -> Ended:
    first, second = ended
    assert_close(first, second, rtol=0, atol=0)
    return first


def assert_same(one: Ended, other: Ended, skip: int = 0) -> None:
    """Check that losses, weights and optimizers' steps are equal, the losses behind ``skip``."""
    assert_close(one["losses"], other["losses"][skip:], rtol=0, atol=1e-4)
    assert_close(one["weights"], other["weights"], rtol=0, atol=1e-5)
    assert one["steps"] == other["steps"]


@pytest.fixture
def runs(tiny_model: MakeModel, color_questions: MakeData, two_ranks: TwoRanks) -> Runs:
    """Rank 1 has no picture in the steps 2 and 5."""
    shown = [True] * 4 + [True] * 2 + [False] * 2 + [True, False] * 4
    order = [slot.samples[0] for slot in TrainingOrder(len(shown), seed=0)(epoch=0)]
    path = color_questions([shown[order.index(sample)] for sample in range(len(shown))])
    return Runs(tiny_model, path, two_ranks)


@pytest.mark.parametrize("in_shards", [False, True], ids=["whole", "shards"])
def test_state_of_parts_that_freeze_and_thaw_between_runs_is_kept(
    runs: Runs, tmp_path: Path, in_shards: bool
) -> None:
    first, second = tmp_path / "first.ckpt", tmp_path / "second.ckpt"

    def three_runs(train: Callable[..., Ended], **options: Any) -> Ended:
        train(2, Freeze(["language_model"]), save={1: first}, **options)
        # The encoder has a state and freezes, the language model has none and thaws.
        train(3, Freeze(["encoder"]), checkpoint=first, save={2: second}, **options)
        return train(4, checkpoint=second, **options)

    expected = three_runs(runs.ddp)
    shutil.rmtree(tmp_path / "lightning_logs", ignore_errors=True)
    ended = three_runs(runs.fsdp2, in_shards=in_shards)
    assert second.is_dir() == in_shards
    assert_same(ended, expected)
    steps = {name.partition(".")[0]: step for name, step in ended["steps"].items()}
    assert steps == {"encoder": 3, "connector": 4, "language_model": 3}
