from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.testing import assert_close

from lit_vlm.callbacks import Freeze
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.data.sampling import TrainingOrder
from lit_vlm.language_models import Seq2SeqLanguageModel
from lit_vlm.model import VisionLanguageModel
from lit_vlm.sharded_strategy import StagedModelParallel  # and its name, fsdp2
from lit_vlm.sharding import is_sharded, reshard, shard

MakeModel = Callable[..., VisionLanguageModel]
MakeData = Callable[[list[bool]], Path]
TwoRanks = Callable[[Callable[[], Any]], list[Any]]
T5 = {"model_type": "t5", "vocab_size": 300, "d_model": 16, "d_ff": 32, "num_layers": 2}


class Recorder(Callback):
    """Keep the losses of the steps, and the answers and loss of each validation."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.answers: list[dict[int, str]] = [{}]
        self.gathered = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if "train/loss" in trainer.callback_metrics:
            self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.gathered |= not all(isinstance(p, DTensor) for p in pl_module.parameters())
        self.answers[-1].update({made.index: made.generated for made in outputs["predictions"]})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.answers.append({})


def fit(
    model: VisionLanguageModel,
    path: Path,
    *callbacks: Callback,
    devices: int = 1,
    strategy: str | StagedModelParallel = "auto",
    batch_size: int = 4,
    **options: Any,
) -> Recorder:
    recorder = Recorder()
    source = JSONConversations(path)
    val = source if "num_sanity_val_steps" in options else None
    data = ConversationDataModule(train=source, val=val, batch_size=batch_size // devices)
    defaults: dict[str, Any] = {"max_steps": 3, "max_epochs": -1, "num_sanity_val_steps": 0}
    Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=strategy,
        callbacks=[recorder, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=path.parent,
        **{**defaults, **options},
    ).fit(model, data)
    return recorder


def weights(model: nn.Module) -> dict[str, Tensor]:
    reshard(model)
    return {
        name: p.full_tensor() if isinstance(p, DTensor) else p.detach()
        for name, p in model.named_parameters()
    }


def compare(
    make: Callable[[], VisionLanguageModel],
    path: Path,
    two_ranks: TwoRanks,
    *callbacks: Callback,
    tolerance: float = 1e-4,
    **options: Any,
) -> None:
    """Train with FSDP2 and in one process; losses and weights must be equal."""
    model = make()
    recorder = fit(model, path, *callbacks, **options)

    def job() -> Any:
        model = make()
        recorder = fit(model, path, *callbacks, devices=2, strategy="fsdp2", **options)
        split = [isinstance(p, DTensor) for p in model.parameters()]
        return recorder.losses, weights(model), all(split)

    for losses, ended, all_are_split in two_ranks(job):
        assert all_are_split
        assert len(losses) == len(recorder.losses) > 0
        assert_close(losses, recorder.losses, atol=tolerance, rtol=0)
        assert_close(ended, weights(model), atol=tolerance, rtol=0)


@pytest.fixture
def some_questions(color_questions: MakeData) -> Path:
    """In the first step one of two ranks has no picture, in the others some have one."""
    flags = [True] * 2 + [False] * 2 + [True, False, True, True] * 2
    order = [slot.samples[0] for slot in TrainingOrder(len(flags), seed=0)(epoch=0)]
    return color_questions([flags[order.index(sample)] for sample in range(len(flags))])


@pytest.mark.parametrize(
    "options",
    [{"gradient_clip_val": 0.1}, {"accumulate_grad_batches": 2, "max_steps": 2}],
    ids=["clipped", "accumulated"],
)
def test_a_sharded_run_is_that_of_one_process(
    tiny_model: MakeModel, some_questions: Path, two_ranks: TwoRanks, options: dict[str, Any]
) -> None:
    compare(tiny_model, some_questions, two_ranks, **options)


def test_a_rank_without_a_picture_goes_through_frozen_eyes_too(
    tiny_model: MakeModel, some_questions: Path, two_ranks: TwoRanks
) -> None:
    frozen = Freeze(["encoder", "connector"])
    compare(tiny_model, some_questions, two_ranks, frozen)


LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "lora": {"lora": {"r": 2}},
    "new tokens": {"new_tokens": ["<a>", "<b>"]},
    "recomputed": {"gradient_checkpointing": True},
    "tied": {"config": {"tie_word_embeddings": True}},
}


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [[], ["language_model"]], ids=["trained", "frozen"])
@pytest.mark.parametrize("options", LANGUAGE_MODELS.values(), ids=LANGUAGE_MODELS.keys())
def test_every_kind_of_language_model_can_be_sharded(
    tiny_model: MakeModel,
    some_questions: Path,
    two_ranks: TwoRanks,
    options: dict[str, Any],
    frozen: list[str],
) -> None:
    def make() -> VisionLanguageModel:
        first = tiny_model().language_model
        assert first.tokenizer is not None
        config = {**first.init_config["init_args"]["config"], **options.get("config", {})}
        others = {key: value for key, value in options.items() if key != "config"}
        return with_language_model(tiny_model(), type(first)(config=config, **others))

    compare(make, some_questions, two_ranks, Freeze(frozen))


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:FSDP2-wrapped module .* returned a view tensor"
)  # T5's positions
def test_an_encoder_decoder_can_be_sharded(
    tiny_model: MakeModel, some_questions: Path, two_ranks: TwoRanks
) -> None:
    config = {**T5, "num_heads": 2, "d_kv": 8, "dropout_rate": 0.0}
    compare(
        lambda: with_language_model(tiny_model(), Seq2SeqLanguageModel(config=config)),
        some_questions,
        two_ranks,
    )


def with_language_model(model: VisionLanguageModel, other: Any) -> VisionLanguageModel:
    torch.manual_seed(0)
    other.train_tokenizer(["color number?", "it is red", "it is navy blue", "green white"])
    return VisionLanguageModel(model.encoder, other, prompt=model.prompt, max_new_tokens=6)


@pytest.mark.slow
def test_mixed_precision_is_that_of_one_process_but_for_rounding(
    tiny_model: MakeModel, some_questions: Path, two_ranks: TwoRanks
) -> None:
    compare(tiny_model, some_questions, two_ranks, tolerance=1e-2, precision="bf16-mixed")


@pytest.mark.filterwarnings("ignore:.* images are in the training and in the validation data")
def test_ranks_generate_in_step_answers_of_different_lengths(
    tiny_model: MakeModel, color_questions: MakeData, two_ranks: TwoRanks
) -> None:
    path = color_questions([True, False, False, False, True])

    def make() -> VisionLanguageModel:
        model = tiny_model(max_new_tokens=12)
        model.processor.stop_ids = list(range(40))  # an answer ends anywhere
        return model

    # Before the first step, too, and once after it.
    options: dict[str, Any] = {"num_sanity_val_steps": -1, "max_steps": 1, "val_check_interval": 1}
    alone = fit(make(), path, **options)

    def job() -> Any:
        recorder = fit(make(), path, devices=2, strategy="fsdp2", **options)
        return recorder.losses, recorder.answers, recorder.gathered

    (losses, first, gathered), (_, second, _) = two_ranks(job)
    assert_close(losses, alone.losses, atol=1e-4, rtol=0)
    assert len(alone.answers[0]) == 5
    for one, other, expected in zip(first, second, alone.answers, strict=True):
        assert {**one, **other} == expected
    assert len({max(map(len, answers[0].values())) for answers in (first, second)}) == 2
    assert not gathered  # callbacks see the optimizer's parameters


def test_refuses_to_split_single_operations(tiny_model: MakeModel, two_ranks: TwoRanks) -> None:
    def job() -> str:
        trainer = Trainer(
            accelerator="cpu", devices=2, strategy=ModelParallelStrategy(), max_epochs=1
        )
        loader: Any = [0]
        with pytest.raises(ValueError, match="got tensor_parallel_size=2. Use") as raised:
            trainer.fit(tiny_model(), loader, loader)
        return str(raised.value)

    assert two_ranks(job)[0].startswith("VisionLanguageModel: the strategy must not split")


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    """A group of one process."""
    place = f"file://{tmp_path}/group"
    init_process_group("gloo", init_method=place, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
    destroy_process_group()


class Halver(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        self.idle = nn.ModuleList([nn.ReLU(), nn.Sequential(nn.ReLU())])
        self.stages = nn.Sequential(*[nn.TransformerEncoderLayer(2, 1, 2) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(x))

    def halve(self, x: Tensor) -> Tensor:
        return self.head(self.stages(x)) / 2


def test_splits_blocks_and_the_rest_as_a_whole(mesh: DeviceMesh) -> None:
    model = Halver()
    shard(model, mesh)
    shard(model, mesh)
    split = [name for name, module in model.named_modules() if isinstance(module, FSDPModule)]
    assert split == ["", "stages.0", "stages.1"]
    assert all(isinstance(p, DTensor) for p in model.parameters())


def test_does_nothing_without_a_mesh() -> None:
    model = Halver()
    shard(model, None)
    assert not is_sharded(model)
    assert type(model) is Halver


def test_can_train_after_a_method_that_ran_in_inference_mode(mesh: DeviceMesh) -> None:
    model = Halver()
    x = torch.ones(1, 3, 2)
    expected = model.halve(x)
    shard(model, mesh, methods=["halve"])
    with torch.inference_mode():
        assert_close(model.halve(x.clone()), expected)
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.stages.parameters())


def test_a_sharded_model_is_recorded_as_the_class_that_it_was_made_as(
    tiny_model: MakeModel, mesh: DeviceMesh
) -> None:
    model = tiny_model()
    made = model.init_config
    shard(model, mesh)
    assert model.init_config == made
    assert model.rebuild_config()["class_path"] == "lit_vlm.model.VisionLanguageModel"
