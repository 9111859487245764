from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
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
Strategy = Literal["alone", "ddp", "fsdp2", "fsdp2 in shards"]
STRATEGIES: dict[Strategy, Callable[[], Any]] = {
    "alone": lambda: "auto",
    "ddp": lambda: "ddp",
    "fsdp2": lambda: "fsdp2",
    "fsdp2 in shards": lambda: StagedModelParallel(save_distributed_checkpoint=True),
}


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
        self._make = make
        self.path = path
        self._two_ranks = two_ranks

    def in_two_processes(self, job: Callable[[], list[Ended]]) -> list[Ended]:
        """Return how runs ended that both processes take part in; it must be the same in both."""
        first, second = self._two_ranks(job)
        assert_close(first, second, rtol=0, atol=0)
        return first

    def fit(
        self,
        steps: int,
        callbacks: list[Callback],
        strategy: Strategy = "alone",
        checkpoint: Path | None = None,
        save: dict[int, Path] | None = None,
    ) -> Ended:
        """Train up to a step."""
        recorder = Recorder(save or {})
        devices = 1 if strategy == "alone" else 2
        trainer = Trainer(
            accelerator="cpu",
            devices=devices,
            strategy=STRATEGIES[strategy](),
            callbacks=[*callbacks, RNGState(), recorder],
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            max_steps=steps,
            max_epochs=-1,
            default_root_dir=self.path.parent,
        )
        model = self._make(schedule="constant", warmup=0, learning_rate=1e-2)
        source = JSONConversations(self.path)
        data = ConversationDataModule(train=source, batch_size=4 // devices)
        trainer.fit(model, data, ckpt_path=checkpoint)
        return {"losses": recorder.losses, **how_it_ended(trainer, model)}


def how_it_ended(trainer: Trainer, model: VisionLanguageModel) -> Ended:
    """Return the weights and, for each that has a state, how many steps its optimizer made."""
    state = trainer.optimizers[0].state
    weights = dict(model.named_parameters())
    return {
        "weights": {name: whole(weight) for name, weight in weights.items()},
        "steps": {n: int(state[w]["step"]) for n, w in weights.items() if state.get(w)},
    }


def whole(value: Tensor) -> Tensor:
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach()


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


def by_part(steps: dict[str, int]) -> dict[str, int]:
    """Return the optimizer's steps of each part, whose weights all have made as many."""
    found = {(name.partition(".")[0], step) for name, step in steps.items()}
    parts = dict(found)
    assert len(parts) == len(found)
    return parts


@pytest.mark.parametrize("strategy", ["fsdp2", "fsdp2 in shards"])
def test_state_of_parts_that_freeze_and_thaw_between_runs_is_kept(
    runs: Runs, tmp_path: Path, strategy: Strategy
) -> None:
    first, second = tmp_path / "first.ckpt", tmp_path / "second.ckpt"

    def three_runs(strategy: Strategy) -> list[Ended]:
        runs.fit(2, [Freeze(["language_model"])], strategy, save={1: first})
        # Now the encoder, which has a state, freezes; the language model has none and thaws.
        runs.fit(3, [Freeze(["encoder"])], strategy, first, save={2: second})
        return [runs.fit(4, [], strategy, second)]

    [expected] = three_runs("alone")
    [ended] = runs.in_two_processes(lambda: three_runs(strategy))
    assert second.is_dir() == (strategy == "fsdp2 in shards")
    assert_same(ended, expected)
    assert by_part(ended["steps"]) == {"encoder": 3, "connector": 4, "language_model": 3}


def three_stages(keep_optimizer: bool) -> StagedFreezing:
    keep: dict[str, Any] = {"keep_optimizer": keep_optimizer}
    return StagedFreezing(
        {
            "align": Stage(trains=["connector"], steps=2),
            "tune": Stage(trains=["language_model"], steps=2, **keep),
            "all": Stage(trains=["encoder", "connector", "language_model"], steps=2, **keep),
        }
    )


STEPS = {
    False: {"encoder": 2, "connector": 2, "language_model": 2},
    True: {"encoder": 2, "connector": 4, "language_model": 4},
}


@pytest.mark.parametrize("keep_optimizer", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("strategy", ["fsdp2", "fsdp2 in shards"])
def test_stages_switch_and_resume_as_in_one_process(
    runs: Runs, tmp_path: Path, strategy: Strategy, keep_optimizer: bool
) -> None:
    expected = runs.fit(6, [three_stages(keep_optimizer)])
    assert by_part(expected["steps"]) == STEPS[keep_optimizer]
    middle = tmp_path / "middle.ckpt"
    ends = [tmp_path / f"checkpoints/stage-{name}.ckpt" for name in ("align", "tune")]

    def job() -> list[Ended]:
        def fit(*how: Any) -> Ended:
            return runs.fit(6, [three_stages(keep_optimizer)], strategy, *how)

        return [fit(None, {3: middle}), *(fit(path) for path in (middle, *ends))]

    uninterrupted, *resumed = runs.in_two_processes(job)
    assert_same(uninterrupted, expected)
    for ended, skipped in zip(resumed, (3, 2, 4), strict=True):
        assert_same(ended, expected, skipped)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fsdp2", "fsdp2 in shards"])
def test_stages_resume_as_with_ddp(runs: Runs, tmp_path: Path, strategy: Strategy) -> None:
    def resumed(strategy: Strategy) -> list[Ended]:
        def fit(*how: Any) -> Ended:
            return runs.fit(6, [three_stages(keep_optimizer=True)], strategy, *how)

        paths = {step: tmp_path / f"{step}.ckpt" for step in (2, 3, 4)}
        return [fit(None, paths), *(fit(path) for path in paths.values())]

    with_ddp = runs.in_two_processes(lambda: resumed("ddp"))
    with_fsdp2 = runs.in_two_processes(lambda: resumed(strategy))
    for one, other in zip(with_fsdp2, with_ddp, strict=True):
        assert_same(one, other)


@pytest.mark.filterwarnings("ignore:The checkpoint holds random states of")
@pytest.mark.parametrize(("writer", "reader"), [("fsdp2", "alone"), ("alone", "fsdp2")])
def test_whole_checkpoints_are_those_of_one_process(
    runs: Runs, tmp_path: Path, writer: Strategy, reader: Strategy
) -> None:
    path = tmp_path / "some.ckpt"

    def run(strategy: Strategy, *how: Any) -> Ended:
        def job() -> list[Ended]:
            return [runs.fit(4, [Freeze(["encoder"])], strategy, *how)]

        [ended] = job() if strategy == "alone" else runs.in_two_processes(job)
        return ended

    first = run(writer, None, {2: path})
    assert_same(run(reader, path), first, skip=2)
    assert_close(load_model(path).state_dict(), read_checkpoint(path)["state_dict"])


@pytest.mark.parametrize("strategy", ["fsdp2", "fsdp2 in shards"])
def test_saving_before_the_first_step_makes_none(
    runs: Runs, tmp_path: Path, strategy: Strategy
) -> None:
    path = tmp_path / "first.ckpt"

    def job() -> list[Ended]:
        saving = runs.fit(1, [], strategy, save={0: path})
        return [saving, runs.fit(1, [], strategy, path)]

    expected = runs.fit(1, [])
    for ended in runs.in_two_processes(job):
        assert_same(ended, expected)


@pytest.mark.parametrize("place", ["file", "shards"])
def test_checkpoints_of_both_kinds_replace_each_other(
    runs: Runs, tmp_path: Path, place: str
) -> None:
    path = tmp_path / "last.ckpt"
    strategies: list[Strategy] = ["fsdp2", "fsdp2 in shards"]
    if place == "file":
        strategies.reverse()

    def job() -> list[Ended]:
        for strategy in strategies:
            runs.fit(2, [], strategy, save={1: path})
        return [runs.fit(2, [], "fsdp2", path)]

    [ended] = runs.in_two_processes(job)
    assert path.is_file() == (place == "file")
    assert [each.name for each in tmp_path.glob("*last*")] == ["last.ckpt"]
    assert_same(ended, runs.fit(2, []), skip=1)
