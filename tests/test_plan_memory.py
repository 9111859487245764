from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightning import Callback, LightningModule, Trainer
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from lit_vlm.callbacks import Freeze
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.model import VisionLanguageModel
from lit_vlm.plan import make_plan
from lit_vlm.plan_memory import PlannedTensor, RankMemory, rank_memory
from lit_vlm.sharded_strategy import StagedModelParallel

MakeModel = Callable[..., VisionLanguageModel]
MakeData = Callable[[list[bool]], Path]
TwoRanks = Callable[[Callable[[], Any]], list[Any]]

FROZEN = ["encoder", "language_model.model.layers.0"]


class Scales(Callback):
    """Weigh what the process holds before and after its only step."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.allocated: dict[str, int] = {}

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        weights = list(pl_module.parameters())
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        self._weigh("weights", weights)
        self._weigh("gradients", gradients)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        states = [s for state in trainer.optimizers[0].state.values() for s in state.values()]
        self._weigh("optimizer", states)

    def _weigh(self, name: str, tensors: list[Any]) -> None:
        here = [t.to_local() if isinstance(t, DTensor) else t for t in tensors]
        self.held[name] = sum(tensor.nbytes for tensor in here)
        self.allocated[name] = sum(tensor.untyped_storage().nbytes() for tensor in here)


def one_step(
    model: VisionLanguageModel, path: Path, devices: int, precision: Any, **how: Any
) -> Scales:
    scales = Scales()
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        precision=precision,
        callbacks=[Freeze(FROZEN), scales],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_steps=1,
        num_sanity_val_steps=0,
        default_root_dir=path.parent,
        **how,
    )
    trainer.fit(model, ConversationDataModule(train=JSONConversations(path), batch_size=2))
    return scales


def planned(model: VisionLanguageModel, strategy: str, ranks: int, **how: Any) -> RankMemory:
    freeze = {"class_path": "lit_vlm.callbacks.Freeze", "init_args": {"parts": FROZEN}}
    trainer = {"callbacks": [freeze], "max_steps": 1, "max_epochs": None, **how}
    plan = make_plan({"trainer": trainer, "model": model.init_config}, ranks)
    return plan.stages[0].memory[strategy]


@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "bf16-mixed"])
def test_a_process_holds_what_was_planned(
    tiny_model: MakeModel, color_questions: MakeData, precision: str
) -> None:
    model = tiny_model(sizes={"tie_word_embeddings": True})
    found = one_step(model, color_questions([True] * 2), 1, precision).held
    memory = planned(model, "ddp", 1, precision=precision)
    assert found == {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
    }
    assert 0 < memory.gradients < memory.weights


def test_two_processes_hold_the_shards_that_were_planned(
    tiny_model: MakeModel, color_questions: MakeData, two_ranks: TwoRanks
) -> None:
    path = color_questions([True] * 4)
    precisions = ("bf16-mixed", "bf16-true")

    def job() -> list[tuple[dict[str, int], dict[str, int]]]:
        scales = [
            one_step(tiny_model(), path, 2, p, strategy=StagedModelParallel()) for p in precisions
        ]
        return [(scale.held, scale.allocated) for scale in scales]

    first, second = two_ranks(job)
    for place, precision in enumerate(precisions):
        memory = planned(tiny_model(), "fsdp2", 2, precision=precision)
        assert first[place][0] == {
            "weights": memory.weights,
            "gradients": memory.gradients,
            "optimizer": memory.optimizer,
        }
        # A table of positions of one row is on the first alone, which the other allocates too.
        held, allocated = second[place]
        assert held["weights"] < memory.weights == allocated["weights"]


def test_hand_computed_bytes() -> None:
    tensors = [
        PlannedTensor((3, 2), 4, is_floating=True, trains=True, has_state=True),
        PlannedTensor((400_000,), 4, is_floating=True, trains=False, has_state=False),
        PlannedTensor((5,), 8, is_floating=False, trains=False, has_state=False),
    ]
    assert rank_memory(tensors, "bf16-mixed", 2) == {
        "ddp": RankMemory(24 + 1_600_000 + 40, 24, 2 * 24 + 4),
        # 2 of 3 rows, and 3 of 5 numbers
        "fsdp2": RankMemory(16 + 800_000 + 24, 16, 2 * 16 + 4),
        "deepspeed_stage_1": RankMemory(12 + 800_000 + 40, 12, 3 * 3 * 4),
        "deepspeed_stage_2": RankMemory(12 + 800_000 + 40, 6, 3 * 3 * 4),
        # what is small is kept whole, too
        "deepspeed_stage_3": RankMemory(6 + 400_000 + 24 + 12 + 40, 6, 3 * 3 * 4),
    }
    assert rank_memory(tensors, "64-true", 1)["ddp"].weights == 48 + 3_200_000 + 40


shapes = st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple)
weights = st.builds(
    lambda shape, trains: PlannedTensor(shape, 4, True, trains, has_state=trains),
    shapes,
    st.booleans(),
)


@given(st.lists(weights, max_size=6), st.integers(1, 9))
def test_shards_hold_the_whole_and_no_more_than_a_row_of_each_tensor_beside_it(
    tensors: list[PlannedTensor], ranks: int
) -> None:
    memory = rank_memory(tensors, "32-true", ranks)
    whole, shard = memory["ddp"].weights, memory["fsdp2"].weights
    row = sum(4 * tensor.numel // tensor.shape[0] for tensor in tensors)
    assert whole <= ranks * shard <= whole + (ranks - 1) * row


@given(st.lists(weights, max_size=6))
def test_one_process_holds_the_same_under_ddp_and_fsdp2(tensors: list[PlannedTensor]) -> None:
    memory = rank_memory(tensors, "bf16-true", 1)
    assert memory["ddp"] == memory["fsdp2"]


def test_the_sum_is_that_of_the_three() -> None:
    assert RankMemory(1, 20, 300).total == 321
