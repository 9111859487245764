import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.multiprocessing.spawn import start_processes
from torch.testing import assert_close

from lit_vlm.callbacks import Freeze, LastCheckpoint, RNGState
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.data.sampling import TrainingOrder
from lit_vlm.model import VisionLanguageModel

MakeModel = Callable[..., VisionLanguageModel]
MakeData = Callable[[list[bool]], Path]


class StepRecorder(Callback):
    """Keep the loss of each step and the gradients that its optimizer sees."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradients: list[dict[str, Tensor]] = []

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        self.gradients.append(
            {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if "train/loss" in trainer.callback_metrics:
            self.losses.append(float(trainer.callback_metrics["train/loss"]))


def trainer_for(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "default_root_dir": str(folder),
    }
    return Trainer(callbacks=list(callbacks), **{**defaults, **options})


def in_training_order(flags: list[bool]) -> list[bool]:
    """Arrange flags by sample so that the first epoch meets them in the given order."""
    order = [slot.samples[0] for slot in TrainingOrder(len(flags), seed=0)(epoch=0)]
    arranged = [False] * len(flags)
    for flag, sample in zip(flags, order, strict=True):
        arranged[sample] = flag
    return arranged


def one_step(
    make: MakeModel, path: Path, folder: Path, batch_size: int, **options: Any
) -> StepRecorder:
    recorder = StepRecorder()
    data = ConversationDataModule(train=JSONConversations(path), batch_size=batch_size)
    trainer_for(folder, recorder, max_steps=1, **options).fit(make(), data)
    return recorder


def _rank(rank: int, port: int, make: MakeModel, path: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        WORLD_SIZE="2",
        NODE_RANK="0",
        LOCAL_RANK=str(rank),
    )
    recorder = one_step(make, path, folder, batch_size=4, devices=2, strategy="ddp")
    torch.save((recorder.losses, recorder.gradients), folder / f"rank{rank}.pt")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Rank 1's half of the step has no picture at all.
PICTURES = {
    "every sample shows a picture": [True] * 8,
    "one rank has no picture": [True] * 4 + [False] * 4,
}


@pytest.mark.parametrize("shown", PICTURES.values(), ids=PICTURES.keys())
def test_one_batch_equals_accumulated_single_samples(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path, shown: list[bool]
) -> None:
    path = color_questions(in_training_order(shown))
    whole = one_step(tiny_model, path, tmp_path, batch_size=8)
    single = one_step(tiny_model, path, tmp_path, batch_size=1, accumulate_grad_batches=8)
    assert_close(single.losses[-1], whole.losses[0], rtol=1e-5, atol=1e-5)
    assert single.gradients[0].keys() == whole.gradients[0].keys()
    assert_close(single.gradients[0], whole.gradients[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shown", PICTURES.values(), ids=PICTURES.keys())
def test_one_process_equals_two(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path, shown: list[bool]
) -> None:
    path = color_questions(in_training_order(shown))
    whole = one_step(tiny_model, path, tmp_path, batch_size=8)
    start_processes(_rank, (free_port(), tiny_model, path, tmp_path), nprocs=2, start_method="fork")
    for rank in range(2):
        losses, gradients = torch.load(tmp_path / f"rank{rank}.pt")
        assert_close(losses[0], whole.losses[0], rtol=1e-5, atol=1e-5)
        assert_close(gradients[0], whole.gradients[0], rtol=1e-5, atol=1e-5)


def test_the_gradient_is_that_of_the_mean_over_all_supervised_tokens(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path
) -> None:
    path = color_questions([True] * 6)
    recorder = one_step(tiny_model, path, tmp_path, batch_size=2, accumulate_grad_batches=3)
    model = tiny_model()
    data = ConversationDataModule(train=JSONConversations(path), batch_size=6)
    data.processor = model.processor
    data.setup("fit")
    [batch] = list(data.train_dataloader())
    loss = model(batch)
    (loss.total / loss.num_tokens).backward()
    expected = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert_close(recorder.gradients[0], expected, rtol=1e-5, atol=1e-5)


def test_a_batch_without_pictures_touches_the_eyes_but_moves_no_statistics(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path
) -> None:
    path = color_questions([False] * 4)
    model = tiny_model("test_resnet")
    before = {n: b.clone() for n, b in model.named_buffers()}
    recorder = StepRecorder()
    data = ConversationDataModule(train=JSONConversations(path), batch_size=4)
    trainer_for(tmp_path, recorder, max_steps=1).fit(model, data)
    seen = [g for n, g in recorder.gradients[0].items() if n.startswith(("encoder", "connector"))]
    assert len(seen) == len([*model.encoder.parameters(), *model.connector.parameters()])
    assert all(not gradient.any() for gradient in seen)
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())


def test_frozen_parts_stay_bit_equal_and_have_no_optimizer_state(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path
) -> None:
    model = tiny_model("test_resnet")
    before = {n: v.clone() for n, v in model.state_dict().items()}
    data = ConversationDataModule(
        train=JSONConversations(color_questions([True] * 8)), batch_size=4
    )
    trainer = trainer_for(tmp_path, Freeze(["encoder", "language_model"]), max_steps=6)
    trainer.fit(model, data)
    moved = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert moved == {n for n in before if n.startswith("connector.")}
    with_state = {id(p) for p in trainer.optimizers[0].state}
    assert with_state == {id(p) for p in model.connector.parameters()}


def test_the_learning_rate_follows_warm_up_and_cosine(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path
) -> None:
    rates: list[float] = []

    class Reader(Callback):
        def on_before_zero_grad(
            self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
        ) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    data = ConversationDataModule(
        train=JSONConversations(color_questions([True] * 8)), batch_size=2
    )
    model = tiny_model(learning_rate=1.0, warmup=2, min_learning_rate=0.1)
    trainer_for(tmp_path, Reader(), max_epochs=2).fit(model, data)
    cosine = [
        0.1 + 0.9 * (1 + float(torch.cos(torch.tensor(k / 6 * torch.pi)))) / 2 for k in range(6)
    ]
    assert_close(rates, [0.5, 1.0, *cosine])


def test_a_schedule_must_know_its_end(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path
) -> None:
    data = ConversationDataModule(train=JSONConversations(color_questions([True] * 2)))
    with pytest.raises(ValueError, match="must know where the run ends"):
        trainer_for(tmp_path, max_epochs=-1).fit(tiny_model(), data)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"warmup": 1.5}, "must be a number of steps or a share below 1, got 1.5"),
        ({"min_learning_rate": 2.0}, "between 0 and 1, got 2.0"),
    ],
)
def test_rejects_options_out_of_range(
    tiny_model: MakeModel, option: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model(**option)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [3, 4, 6])  # in the middle, at the end, beyond the first epoch
def test_a_resumed_run_is_the_same_run(
    tiny_model: MakeModel,
    color_questions: MakeData,
    tmp_path: Path,
    num_workers: int,
    stop: int,
) -> None:
    path = color_questions([True, False] * 5)

    def run(steps: int, checkpoint: Path | None = None) -> list[float]:
        model = tiny_model(sizes={"attention_dropout": 0.1}, schedule="constant", warmup=2)
        data = ConversationDataModule(
            train=JSONConversations(path), batch_size=3, num_workers=num_workers
        )
        recorder = StepRecorder()
        trainer = trainer_for(
            tmp_path,
            recorder,
            RNGState(),
            LastCheckpoint(dirpath=tmp_path),
            enable_checkpointing=True,
            max_steps=steps,
            max_epochs=-1,
        )
        trainer.fit(model, data, ckpt_path=checkpoint)
        return recorder.losses

    uninterrupted = run(12)
    first = run(stop)
    second = run(12, tmp_path / "last.ckpt")
    assert len(uninterrupted) == 12
    assert first + second == uninterrupted


def test_two_runs_with_one_seed_are_equal_and_another_seed_differs(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path
) -> None:
    path = color_questions([True] * 9)

    def losses(seed: int) -> list[float]:
        data = ConversationDataModule(train=JSONConversations(path), batch_size=3, seed=seed)
        recorder = StepRecorder()
        trainer_for(tmp_path, recorder, max_epochs=2).fit(tiny_model(), data)
        return recorder.losses

    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


def test_logs_loss_pace_and_rates_of_the_interval(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path
) -> None:
    from lit_vlm.csv_logger import AppendingCSVLogger

    data = ConversationDataModule(
        train=JSONConversations(color_questions([True] * 8)), batch_size=2
    )
    trainer = trainer_for(
        tmp_path, max_steps=4, log_every_n_steps=2, logger=AppendingCSVLogger(tmp_path)
    )
    trainer.fit(tiny_model(), data)
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(rows) == 2
    expected = {"train/loss", "train/samples_per_second", "train/tokens_per_second"}
    expected |= {"train/data_wait_share", "lr/encoder", "lr/connector", "lr/language_model"}
    assert expected <= set(header.split(","))


def test_precision_flags_train(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path
) -> None:
    path = color_questions([True, False, True, True])
    exact = one_step(tiny_model, path, tmp_path, batch_size=4)
    for precision in ("bf16-mixed", "bf16-true"):
        how: dict[str, Any] = {"precision": precision, "gradient_clip_val": 1.0}
        rough = one_step(tiny_model, path, tmp_path, batch_size=4, **how)
        assert rough.losses[0] == pytest.approx(exact.losses[0], rel=2e-2)
