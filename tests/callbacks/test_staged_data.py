"""Stages that read batches of their own."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor

from lit_vlm.callbacks import RNGState, Stage, StagedFreezing
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.model import VisionLanguageModel

MakeTrainer = Callable[..., Trainer]
MakeModel = Callable[..., VisionLanguageModel]


class Reader(Callback):
    """Keep which samples each batch held, its images' size, and the loss."""

    def __init__(self, save_at: int | None = None, to: Path | None = None) -> None:
        self.rows: list[tuple[int, list[int], int]] = []
        self.losses: list[Tensor] = []
        self.validated: list[tuple[int, int]] = []
        self.save_at = save_at
        self.to = to

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        ids = sorted(int(reference.dialogue.id.split("-")[1]) for reference in batch.references)
        self.rows.append((trainer.global_step, ids, batch.images.shape[-1]))
        self.losses.append(outputs["loss"])
        if trainer.global_step == self.save_at and not trainer.fit_loop._should_accumulate():
            assert self.to is not None
            trainer.save_checkpoint(self.to)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *unused: int
    ) -> None:
        self.validated.append((trainer.global_step, batch.images.shape[-1]))


@pytest.fixture
def make_data(
    color_questions: Callable[[list[bool]], Path], tmp_path: Path
) -> Callable[..., ConversationDataModule]:
    """Sixteen dialogues in two sources: 0 to 5 are captions, 6 to 15 instructions."""

    def make(**options: Any) -> ConversationDataModule:
        lines = color_questions([True] * 16).read_text().splitlines(keepends=True)
        for name, part in (("captions", lines[:6]), ("instructions", lines[6:])):
            (tmp_path / f"{name}.jsonl").write_text("".join(part))
        sources = {
            name: JSONConversations(tmp_path / f"{name}.jsonl")
            for name in ("captions", "instructions")
        }
        return ConversationDataModule(sources, **{"batch_size": 4, **options})

    return make


STAGES = {
    "align": Stage(trains=["connector"], data=["captions"], batch_size=2, epochs=2),
    "tune": Stage(
        trains=["connector", "language_model"],
        data=["instructions"],
        accumulate_grad_batches=2,
        steps=5,  # two passes of three batches, and the first window of a third
    ),
    "both": Stage(trains=["encoder"], batch_size=8, epochs=1, learning_rate=0.01),
}


def fit(
    make_trainer: MakeTrainer,
    model: LightningModule,
    data: Any,
    reader: Reader,
    checkpoint: Path | None = None,
    stages: dict[str, Stage] = STAGES,
    **options: Any,
) -> Trainer:
    trainer = make_trainer(StagedFreezing(stages), RNGState(), reader, **options)
    trainer.fit(model, data, ckpt_path=checkpoint)
    return trainer


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_each_stage_reads_its_own_batches_from_their_beginning(
    tiny_model: MakeModel, make_data: Any, quiet_trainer: MakeTrainer, num_workers: int
) -> None:
    reader = Reader()
    trainer = fit(quiet_trainer, tiny_model(), make_data(num_workers=num_workers), reader)
    rows = [(step, ids) for step, ids, _ in reader.rows]
    steps, batches = [step for step, _ in rows], [ids for _, ids in rows]
    # align: 6 steps of one batch; tune: windows of 2, 1, 2, 1 and 2 batches; both: 2 steps.
    assert steps == [1, 2, 3, 4, 5, 6, 6, 7, 8, 8, 9, 10, 10, 11, 12, 13]
    assert [len(ids) for ids in batches] == [2] * 6 + [4, 4, 2, 4, 4, 2, 4, 4] + [8, 8]
    first, second = batches[:3], batches[3:6]
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(6))
    assert first != second
    for begin in (6, 9):
        assert sorted(sum(batches[begin : begin + 3], [])) == list(range(6, 16))
    assert sorted(sum(batches[-2:], [])) == list(range(16))
    assert trainer.global_step == 13


@pytest.mark.parametrize("stopped_at", [2, 3, 6, 7, 8, 9, 11, 12])
def test_a_resumed_run_reads_what_was_left_bit_for_bit(
    tiny_model: MakeModel,
    make_data: Any,
    quiet_trainer: MakeTrainer,
    tmp_path: Path,
    stopped_at: int,
) -> None:
    whole = Reader(stopped_at, tmp_path / "stopped.ckpt")
    model = tiny_model()
    fit(quiet_trainer, model, make_data(), whole)
    rest = Reader()
    other = tiny_model()
    seed_everything(99, verbose=False)
    fit(quiet_trainer, other, make_data(), rest, tmp_path / "stopped.ckpt")
    done = sum(step <= stopped_at for step, *_ in whole.rows)
    # A batch that follows a step, and fills the next one's window, bears that step's number too.
    done -= sum(step == stopped_at for step, *_ in whole.rows[:done]) - 1
    while whole.rows[done - 1][0] < stopped_at:
        done += 1
    assert rest.rows == whole.rows[done:]
    assert all(map(torch.equal, rest.losses, whole.losses[done:]))
    ended = model.state_dict()
    assert all(torch.equal(value, ended[name]) for name, value in other.state_dict().items())


def growing_model(side: int = 16) -> VisionLanguageModel:
    from lit_vlm.encoders import CLIPEncoder
    from lit_vlm.language_models import CausalLanguageModel
    from lit_vlm.prompts import Plain

    seed_everything(0, verbose=False)
    sizes = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "image_size": 16}
    eye = CLIPEncoder(sizes, layers=[-1], image_size=side)
    config = {"model_type": "llama", "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1}
    config |= {"intermediate_size": 16, "num_attention_heads": 2}
    voice = CausalLanguageModel(config=config)
    voice.train_tokenizer(["color number?", "it is red", "it is navy blue", "green white"])
    return VisionLanguageModel(eye, voice, prompt=Plain(), max_new_tokens=2)


GROWING = {
    "small": Stage(trains=["connector"], epochs=1),
    "large": Stage(trains=["encoder", "connector"], epochs=1, image_size=32),
}


def test_a_stage_can_look_at_larger_images_in_training_and_validation(
    make_data: Any, quiet_trainer: MakeTrainer, tmp_path: Path
) -> None:
    model, reader = growing_model(), Reader()
    data = make_data(val=0.25)
    trainer = fit(quiet_trainer, model, data, reader, stages=GROWING, limit_val_batches=1)
    steps = len(reader.rows) // 2
    assert [size for _, _, size in reader.rows] == [16] * steps + [32] * steps
    assert reader.validated == [(steps, 16), (2 * steps, 32)]
    assert model.encoder.num_tokens == 16

    # Checkpoints know the size that their encoder works at, in this process and in another.
    small = tmp_path / "checkpoints" / "stage-small.ckpt"
    trainer.validate(model, data, ckpt_path=small, verbose=False)
    assert reader.validated[-1][1] == 16
    for name, side in (("small", 16), ("large", 32)):
        path = tmp_path / "checkpoints" / f"stage-{name}.ckpt"
        assert VisionLanguageModel.load_from_checkpoint(path).image_size == side


def test_a_run_resumes_at_its_stages_image_size(
    make_data: Any, quiet_trainer: MakeTrainer, tmp_path: Path
) -> None:
    whole = Reader(save_at=5, to=tmp_path / "stopped.ckpt")
    fit(quiet_trainer, growing_model(), make_data(val=0.25), whole, stages=GROWING)
    rest = Reader()
    model = growing_model()
    fit(quiet_trainer, model, make_data(val=0.25), rest, tmp_path / "stopped.ckpt", GROWING)
    assert rest.rows == whole.rows[5:]
    assert torch.equal(rest.losses[0], whole.losses[5])


@pytest.mark.parametrize(
    ("options", "trainer_options", "message"),
    [
        ({"image_size": 20}, {}, "multiple of the patch size 8, got 20"),
        ({"data": ["caption"]}, {}, r"train \(captions, instructions\), got 'caption'"),
        ({"share": 0.5, "batch_size": 2}, {"max_steps": -1}, "a share must be one of the"),
        ({"batch_size": 2}, {"limit_train_batches": 0.5}, "must be a whole number, got 0.5"),
        ({"batch_size": 2}, {"val_check_interval": 2}, "must be a share of one, got 2"),
    ],
)
def test_says_which_batches_cannot_be_had(
    make_data: Any,
    quiet_trainer: MakeTrainer,
    options: dict[str, Any],
    trainer_options: dict[str, Any],
    message: str,
) -> None:
    stages = {"one": Stage(**{"trains": ["connector"], **options})}
    options = {"max_steps": 2, **trainer_options}
    with pytest.raises(ValueError, match=message):
        fit(quiet_trainer, growing_model(), make_data(), Reader(), stages=stages, **options)


def test_says_that_other_data_modules_and_models_cannot_change_batches(
    plain_project: ModuleType, quiet_trainer: MakeTrainer, make_data: Any, tiny_model: MakeModel
) -> None:
    stages = {"one": Stage(trains=["head"], batch_size=2, steps=2)}
    with pytest.raises(
        ValueError, match="follows stages, such as .* got PlainData for stage 'one'"
    ):
        fit(
            quiet_trainer,
            plain_project.PlainClassifier(),
            plain_project.PlainData(),
            Reader(),
            stages=stages,
        )
    stages = {"one": Stage(trains=["connector"], image_size=32, steps=2)}
    with pytest.raises(
        ValueError, match="TimmEncoder: the size of the images must stay 16, got 32"
    ):
        fit(quiet_trainer, tiny_model(), make_data(), Reader(), stages=stages)


LONGER = {
    "short": Stage(trains=["connector"], data=["captions"], batch_size=2, steps=2),
    "long": Stage(trains=["connector", "encoder"], batch_size=2, steps=7),
}


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("stopped_at", [1, 2, 3, 5])
def test_a_run_resumes_before_longer_passes_too(
    tiny_model: MakeModel,
    make_data: Any,
    quiet_trainer: MakeTrainer,
    tmp_path: Path,
    stopped_at: int,
    accumulate: int,
) -> None:
    """The pass that a checkpoint ends is shorter than the one that follows."""
    options: dict[str, Any] = {"accumulate_grad_batches": accumulate, "limit_val_batches": 1}
    whole = Reader(stopped_at, tmp_path / "stopped.ckpt")
    model = tiny_model()
    data = make_data(val=0.25)
    fit(quiet_trainer, model, data, whole, stages=LONGER, **options)
    rest = Reader()
    other = tiny_model()
    saved = tmp_path / "stopped.ckpt"
    fit(quiet_trainer, other, make_data(val=0.25), rest, saved, LONGER, **options)
    assert rest.rows == whole.rows[-len(rest.rows) :]
    assert rest.rows[-1][0] == 9
    assert (
        rest.validated
        == [(step, size) for step, size in whole.validated if step >= stopped_at][
            -len(rest.validated) :
        ]
    )
    ended = model.state_dict()
    assert all(torch.equal(value, ended[name]) for name, value in other.state_dict().items())


def test_an_error_in_a_pass_resumes_at_the_batch_that_failed(
    tiny_model: MakeModel, make_data: Any, quiet_trainer: MakeTrainer, tmp_path: Path
) -> None:
    class Fails(Callback):
        def on_train_batch_start(self, trainer: Trainer, *unused: Any) -> None:
            if trainer.global_step == 5:
                raise RuntimeError("stop")

        def on_exception(self, trainer: Trainer, *unused: Any) -> None:
            trainer.save_checkpoint(saved)

    whole = Reader()
    model = tiny_model()
    saved = tmp_path / "failed.ckpt"
    fit(quiet_trainer, model, make_data(), whole, stages=LONGER)
    trainer = quiet_trainer(StagedFreezing(LONGER), RNGState(), Fails())
    with pytest.raises(RuntimeError, match="stop"):
        trainer.fit(tiny_model(), make_data())
    rest = Reader()
    other = tiny_model()
    fit(quiet_trainer, other, make_data(), rest, saved, LONGER)
    assert rest.rows == whole.rows[5:]
    ended = model.state_dict()
    assert all(torch.equal(value, ended[name]) for name, value in other.state_dict().items())
