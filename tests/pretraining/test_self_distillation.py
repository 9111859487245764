import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from lightning import Callback, LightningModule, Trainer, seed_everything
from PIL import Image
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset

from lit_vlm.callbacks import LastCheckpoint, RNGState
from lit_vlm.data import CropBatch, MultiCrop
from lit_vlm.encoders import DINOv2Encoder, TimmEncoder, VisionEncoder
from lit_vlm.encoders.pooling import image_vector
from lit_vlm.freezing import trains
from lit_vlm.optim import parameter_groups
from lit_vlm.pretraining import SelfDistillation
from lit_vlm.sharded_strategy import StagedModelParallel

SIZES = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
VIEWS: dict[str, Any] = {"num_local": 2, "jitter": (0.1, 0.1, 0.1, 0.0), "blur": (0.0, 0.0, 0.0)}
QUICK: dict[str, Any] = {
    "learning_rate": 5e-3,
    "final_weight_decay": None,
    "teacher_temperatures": (0.04, 0.04),
}
SMALL: dict[str, Any] = {"num_prototypes": 32, "hidden_dim": 24, "bottleneck_dim": 8}


pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but")


class Drawings(Dataset[CropBatch]):
    """Batches of crops of squares of several colours; the same ones every time."""

    def __init__(self, views: MultiCrop, count: int = 16, batch_size: int = 8) -> None:
        random = np.random.default_rng(0)
        self.batches = []
        for start in range(0, count, batch_size):
            index = list(range(start, start + batch_size))
            made = [views.crops(self.draw(i, random), (32, 32), seed=i) for i in index]
            large = torch.stack([crops[0] for crops in made], dim=1)
            small = torch.stack([crops[1] for crops in made], dim=1)
            self.batches.append(CropBatch(large, small, torch.tensor(index)))

    @staticmethod
    def draw(i: int, random: np.random.Generator) -> Image.Image:
        pixels = np.full((40, 40, 3), 40 * (i % 4), dtype=np.uint8)
        top, left = random.integers(0, 24, 2)
        pixels[top : top + 16, left : left + 16, i % 3] = 255
        return Image.fromarray(pixels)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, place: int) -> CropBatch:
        return self.batches[place]


def vit(**options: Any) -> DINOv2Encoder:
    seed_everything(0, verbose=False)
    options = {"norm": True, "pool": True, "image_size": 32, **options}
    return DINOv2Encoder(config=SIZES, **options)


def make(encoder: VisionEncoder | None = None, **options: Any) -> SelfDistillation:
    return SelfDistillation(
        encoder or vit(), training_views=MultiCrop(**VIEWS), **{**SMALL, "warmup": 0, **options}
    )


def batch_of(model: SelfDistillation, size: int = 8) -> CropBatch:
    return Drawings(model.training_views, size, size)[0]


class Watch(Callback):
    """Keep figures and weights of each step."""

    def __init__(self) -> None:
        self.figures: list[dict[str, float]] = []
        self.weights: list[dict[str, Tensor]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.figures.append({k: float(v) for k, v in trainer.callback_metrics.items()})
        now = pl_module.state_dict()
        self.weights.append({name: _whole(value).clone() for name, value in now.items()})


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def fit(
    model: SelfDistillation,
    folder: Path,
    steps: int,
    callbacks: tuple[Callback, ...] = (),
    count: int = 16,
    batch_size: int = 8,
    resume: Path | None = None,
    **options: Any,
) -> Watch:
    watch = Watch()
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[*callbacks, RNGState(), watch],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        max_steps=steps,
        default_root_dir=folder,
        **{"enable_checkpointing": bool(callbacks), **options},
    )
    data = Drawings(model.training_views, count, batch_size)
    trainer.fit(model, DataLoader(data, batch_size=None), ckpt_path=resume)
    return watch


def reference_loss(model: SelfDistillation, batch: CropBatch, masks: Tensor) -> Tensor:
    # After https://github.com/facebookresearch/dinov2/blob/main/dinov2/train/ssl_meta_arch.py
    crops = batch.global_crops.flatten(0, 1)
    with torch.no_grad():
        teacher = model.encoder(crops)
        after_head = model.teacher_head(image_vector(teacher))
        reverse = torch.cat(after_head.chunk(2)[::-1])
        teacher_cls = F.softmax(reverse / 0.04, dim=-1)
        patches = model.teacher_head(teacher.levels[-1].flatten(0, 1)[masks.flatten()])
        teacher_patch = F.softmax(patches / 0.04, dim=-1)
    with model.patch_mask.over(masks):  # type: ignore[union-attr]
        student = model.student(crops)
    small = batch.local_crops.flatten(0, 1)
    encoder = model.student
    local = encoder.encode((small / 255 - encoder.mean) / encoder.std)
    terms = 2 + 2 * len(batch.local_crops)
    loss = torch.zeros(())
    for s in model.student_head(image_vector(local)).chunk(len(batch.local_crops)):
        for t in teacher_cls.chunk(2):
            loss = loss - (t * F.log_softmax(s / 0.1, dim=-1)).sum(-1).mean() / terms
    s = model.student_head(image_vector(student))
    loss = loss - (teacher_cls * F.log_softmax(s / 0.1, dim=-1)).sum(-1).mean() * 2 / terms
    for vectors in image_vector(student).chunk(2):
        vectors = F.normalize(vectors, dim=-1)
        distances = torch.cdist(vectors, vectors) + 10 * torch.eye(len(vectors))
        loss = loss - 0.1 * distances.min(dim=1).values.log().mean()
    s = model.student_head(student.levels[-1].flatten(0, 1)[masks.flatten()])
    each = torch.sum(teacher_patch * F.log_softmax(s / 0.1, dim=-1), dim=-1)
    weight = (1 / masks.sum(-1).clamp(min=1.0)).unsqueeze(-1).expand_as(masks)[masks]
    return loss - (each * weight).sum() / masks.shape[0]


def test_the_whole_loss_equals_metas_in_value_and_gradient() -> None:
    model = make(teacher_temperatures=(0.04, 0.04))
    batch = batch_of(model)
    masks = model._draw_masks(batch)
    assert masks is not None
    torch.nn.init.normal_(model.patch_mask.mask_token)  # type: ignore[union-attr]
    weights = [p for p in model.parameters() if p.requires_grad]
    loss = model.training_figures(batch)["loss"]
    expected = reference_loss(model, batch, masks)
    assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, weights)
    # cdist rounds otherwise than the distance to one neighbour.
    assert_close(gradients, torch.autograd.grad(expected, weights), rtol=1e-3, atol=1e-5)


def test_the_teacher_gets_no_gradient_and_no_optimizer_state() -> None:
    model = make()
    model.train()
    assert not any(module.training for module in model.encoder.modules())
    assert all(module.training for module in model.student.modules())
    model.training_figures(batch_of(model))["loss"].backward()  # type: ignore[no-untyped-call]
    for teacher, student in model.pairs:
        assert not trains(teacher)
        assert all(p.grad is None for p in teacher.parameters())
        assert all(p.grad is not None for p in student.parameters())
    groups = parameter_groups(model.parts, 0.1)
    grouped = [p for group in groups for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters() if p.requires_grad}
    token = next(g for g in groups if g["part"] == "patch_mask")
    assert token["weight_decay"] == 0


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_teacher_follows_once_per_optimizer_step(tmp_path: Path, accumulate: int) -> None:
    model = make(teacher_momentum=0.9, learning_rate=0.1)
    start = {n: v.clone() for n, v in model.state_dict().items()}
    watch = fit(model, tmp_path, steps=4, accumulate_grad_batches=accumulate)
    before = start
    for step, now in enumerate(watch.weights[accumulate - 1 :: accumulate]):
        momentum = 1 - 0.1 * (1 + math.cos(math.pi * step / 4)) / 2
        for name in now:
            student = name.replace("encoder.", "student.", 1).replace("teacher_", "student_", 1)
            if name.startswith(("encoder.network", "teacher_head")):
                expected = momentum * before[name] + (1 - momentum) * now[student]
                assert_close(now[name], expected)
        assert step == 0 or not torch.equal(
            now["class_targets.center"], before["class_targets.center"]
        )
        before = now
    assert len(watch.weights) == 4 * accumulate


def test_the_checkpoint_has_the_teacher_of_its_own_step(tmp_path: Path) -> None:
    watch = fit(make(), tmp_path, 3, (LastCheckpoint(every_n_train_steps=1),))
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert_close(dict(saved), watch.weights[-1], rtol=0, atol=0)


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    whole = fit(make(warmup=2), tmp_path, 6, count=8)
    fit(make(warmup=2), tmp_path, 6, (_StopAfter(2), LastCheckpoint()), count=8)
    last = tmp_path / "checkpoints" / "last.ckpt"
    again = fit(make(warmup=2), tmp_path, 6, (LastCheckpoint(),), count=8, resume=last)
    assert len(again.figures) == 4
    for figures, expected in zip(again.figures, whole.figures[2:], strict=True):
        for name in ("loss", "teacher_entropy", "teacher_momentum", "teacher_temperature"):
            assert figures[f"train/{name}"] == expected[f"train/{name}"]
    assert_close(again.weights[-1], whole.weights[-1], rtol=0, atol=0)


class _StopAfter(Callback):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        trainer.should_stop = trainer.global_step >= self.steps


def test_a_checkpoint_rebuilds_teacher_and_student(tmp_path: Path) -> None:
    model = make(shared_head=False, targets="sinkhorn")
    fit(model, tmp_path, 2, (LastCheckpoint(),))
    last = tmp_path / "checkpoints" / "last.ckpt"
    loaded = SelfDistillation.load_from_checkpoint(last)
    assert_close(dict(loaded.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    assert loaded.training_views.local_size == 16
    assert not trains(loaded.encoder)
    assert list(loaded.parts) == ["student", "student_head", "student_patch_head", "patch_mask"]
    images = torch.rand(2, 3, 32, 32)
    assert_close(loaded.eval()(images), image_vector(model.encoder(images)))


def test_the_loss_falls_and_pictures_stay_apart(tmp_path: Path) -> None:
    model = make(**QUICK, teacher_momentum=0.9, targets="sinkhorn")
    figures = fit(model, tmp_path, 50).figures
    assert figures[-1]["train/loss"] < figures[0]["train/loss"] - 3
    assert figures[-1]["train/student_teacher_kl"] < 0.5 * figures[0]["train/student_teacher_kl"]
    assert told(figures[-1]) > 0.3


def test_a_collapse_shows_in_the_entropies(tmp_path: Path) -> None:
    options = {**QUICK, "teacher_momentum": 0.5, "patch_weight": 0, "koleo_weight": 0}
    without = fit(make(**options, center_momentum=1), tmp_path, 40).figures[-1]
    assert without["train/loss"] < 0.1  # which looks like a success
    assert without["train/teacher_marginal_entropy"] < 0.1
    assert told(without) < 0.01
    centred = fit(make(**QUICK, teacher_momentum=0.9), tmp_path, 40).figures[-1]
    assert centred["train/teacher_marginal_entropy"] > 1
    assert told(centred) > 0.1


def told(figures: dict[str, float]) -> float:
    """Return what a target tells about its picture, in nats."""
    return figures["train/teacher_marginal_entropy"] - figures["train/teacher_entropy"]


def test_schedules_go_by_the_step(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "temperature_warmup": 2,
        "prototypes_frozen": 2,
        "weight_decay": 0.04,
    }
    model = make(**options)
    start = model.student_head.prototypes.directions.detach().clone()
    decays = _Decays()
    watch = fit(model, tmp_path, 4, (decays,), enable_checkpointing=False)
    temperatures = [figures["train/teacher_temperature"] for figures in watch.figures]
    assert_close(temperatures, [0.04, 0.055, 0.07, 0.07])
    stood = [torch.equal(now["student_head.prototypes.directions"], start) for now in watch.weights]
    assert stood == [True, True, False, False]
    expected = [0.4 - 0.36 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert_close([max(seen) for seen in decays.seen], expected)
    assert all(min(seen) == 0 for seen in decays.seen)


class _Decays(Callback):
    def __init__(self) -> None:
        self.seen: list[set[float]] = []

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        self.seen.append({group["weight_decay"] for group in optimizer.param_groups})


def test_convolutional_networks_train_without_patches(tmp_path: Path) -> None:
    encoder = TimmEncoder("test_resnet", layers=[2], image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(ValueError, match="patch_weight must be 0"):
        make(encoder)
    model = make(encoder, patch_weight=0, teacher_momentum=0.5)
    norm = next(n for n, _ in encoder.named_buffers() if n.endswith("running_mean"))
    watch = fit(model, tmp_path, 2)
    now, before = watch.weights[1], watch.weights[0]
    assert "train/patch_loss" not in watch.figures[0]
    moved = 0.75 * before[f"encoder.{norm}"] + 0.25 * now[f"student.{norm}"]
    assert_close(now[f"encoder.{norm}"], moved)  # the second of two steps: half of a cosine


def test_works_without_local_crops_and_in_half_precision(tmp_path: Path) -> None:
    model = SelfDistillation(vit(), training_views=MultiCrop(num_local=0), **SMALL)
    watch = fit(model, tmp_path, 2, precision="bf16-mixed")
    assert all(math.isfinite(figures["train/loss"]) for figures in watch.figures)
    assert {value.dtype for value in watch.weights[-1].values()} == {torch.float32}


def test_refuses_weights_too_coarse_for_a_teacher(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weights must be in float32, got torch.bfloat16"):
        fit(make(), tmp_path, 1, precision="bf16-true")


def test_validates_without_a_loss(tmp_path: Path) -> None:
    model = make()
    loader = DataLoader(Drawings(model.training_views), batch_size=None)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        max_steps=1,
        log_every_n_steps=1,
    )
    trainer.fit(model, loader, loader)
    assert not [name for name in trainer.callback_metrics if name.startswith("val")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_momentum": 1.5}, "teacher_momentum must be between 0 and 1"),
        ({"mask_ratio": (0.5, 0.1)}, "mask_ratio must be between 0 and 1, the lesser first"),
        ({"student_temperature": 0}, "student_temperature must be positive, got 0"),
        ({"koleo_weight": -1}, "koleo_weight must not be negative, got -1"),
        ({"weight_decay": 0.0}, "weight_decay must be positive"),
    ],
)
def test_refuses_numbers_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"SelfDistillation: {message}"):
        make(**options)


def test_refuses_a_shared_head_for_widths_that_differ() -> None:
    sizes = {**SIZES, "dynamic_img_size": True}
    encoder = TimmEncoder(
        "test_vit",
        image_size=32,
        config=sizes,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    encoder.dims = (8,)
    with pytest.raises(ValueError, match="got 8 and 16. Set shared_head: false"):
        make(encoder)


@pytest.fixture
def halves() -> Callable[[int], CropBatch]:
    batch = batch_of(make(), 8)

    def half(rank: int) -> CropBatch:
        mine = slice(4 * rank, 4 * rank + 4)
        return CropBatch(batch.global_crops[:, mine], batch.local_crops[:, mine], batch.index[mine])

    return half


def test_two_ranks_are_one_process(
    two_ranks: Callable[..., list[Any]], halves: Callable[[int], CropBatch], tmp_path: Path
) -> None:
    # Masks and KoLeo look at a rank's own batch.
    options: dict[str, Any] = {"patch_weight": 0, "koleo_weight": 0, "teacher_momentum": 0.5}

    def run(model: SelfDistillation, batches: list[CropBatch], **how: Any) -> Watch:
        watch = Watch()
        trainer = Trainer(
            accelerator="cpu",
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            max_steps=3,
            use_distributed_sampler=False,
            default_root_dir=tmp_path,
            **how,
        )
        trainer.fit(model, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
        return watch

    def job() -> Any:
        mine = [halves(int(os.environ["LOCAL_RANK"]))] * 3
        ddp = {"devices": 2, "strategy": "ddp"}
        seen = run(make(**options), mine, **ddp)
        whole = run(make(shared_head=False), mine, **ddp)
        split = run(make(**options), mine, devices=2, strategy=StagedModelParallel())
        return (
            (seen.figures, seen.weights[-1]),
            (split.figures, split.weights[-1]),
            whole.weights[-1],
        )

    model = make(**options)
    alone = run(model, [batch_of(model, 8)] * 3)
    first, second = two_ranks(job)
    for ddp, fsdp, _ in (first, second):
        for all_figures, weights in (ddp, fsdp):
            for figures, expected in zip(all_figures, alone.figures, strict=True):
                for name in ("loss", "teacher_entropy", "teacher_marginal_entropy"):
                    value = expected[f"train/{name}"]
                    assert_close(figures[f"train/{name}"], value, rtol=1e-4, atol=1e-5)
            assert_close(weights, alone.weights[-1], rtol=1e-3, atol=5e-5)
    assert_close(first[2], second[2], rtol=0, atol=0)
