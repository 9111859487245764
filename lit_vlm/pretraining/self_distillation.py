"""Pretraining without labels or captions: a student that agrees with its own average."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_vlm.data.image_batches import CropBatch
from lit_vlm.data.multi_crop import MultiCrop
from lit_vlm.encoders import VisionEncoder, VisualFeatures
from lit_vlm.encoders.pooling import image_vector, vector_dim
from lit_vlm.images import Resize
from lit_vlm.optim import Schedule, steps_or_share
from lit_vlm.pretraining.block_masks import draw_masks
from lit_vlm.pretraining.dino_loss import dino_loss
from lit_vlm.pretraining.distillation_checks import check_numbers, check_shared_head
from lit_vlm.pretraining.distillation_head import DistillationHead
from lit_vlm.pretraining.koleo import koleo_loss
from lit_vlm.pretraining.local_crops import LocalCrops
from lit_vlm.pretraining.patch_loss import patch_loss
from lit_vlm.pretraining.patch_mask import PatchMask
from lit_vlm.pretraining.step_schedules import in_steps, rising
from lit_vlm.pretraining.student_teacher import StudentTeacherModule
from lit_vlm.pretraining.target_spread import entropies
from lit_vlm.pretraining.teacher import teacher_of
from lit_vlm.pretraining.teacher_targets import Centring, SinkhornKnopp, TeacherTargets


class SelfDistillation(StudentTeacherModule):
    """Train an encoder on pictures alone, by DINOv2's objective.

    A student sees two large crops of a picture, with patches of half of them masked, and several
    small ones. What it says of each must be what the teacher, a running average of it, says of the
    other large crops, and of the patches behind the masks. The teacher is ``encoder``, what the
    run makes; ``student`` is the copy of it that trains. Data come as ``CropBatch``.

    Whether it collapses is seen in the log, in two entropies of the teacher's targets (nats):
    ``teacher_entropy``, the mean of each target's own, and ``teacher_marginal_entropy``, that of
    their mean over the batch. Their difference is what a target tells about its picture. If it goes
    to 0 the run has collapsed: both at 0, onto one prototype; both at ln K (K = num_prototypes),
    onto the uniform distribution. In a healthy run the first falls while the second stays high.

    Args:
        encoder: the encoder that the run makes. What it pools (``pool: true``), or else the mean
            of its patches, is the picture's vector; its last level is the patches'.
        training_views: how pictures are cropped; None for DINOv2's crops.
        num_prototypes: number K of prototypes; DINOv2 has 65,536.
        hidden_dim: width of the heads; DINOv2's is 2048.
        bottleneck_dim: width of their narrow output; DINOv2's is 256.
        shared_head: score pictures and patches by one head, as in DINOv2's default.
        targets: what keeps the teacher from collapsing: ``centring`` or ``sinkhorn``.
        center_momentum: share of the old centre that a step keeps; 1 switches centring off.
        student_temperature: of the student's softmax.
        teacher_temperatures: of the teacher's, at the start and after the warm-up.
        temperature_warmup: steps (an integer) or share of the run (a float) of that warm-up; a
            share of a run without an end is none.
        teacher_momentum: share of the teacher's weights that the first step keeps; it rises to 1
            in half a cosine. The shorter a run, the lower: 0.992 is for 100,000 steps and more.
        patch_weight: weight of the loss of masked patches; 0 for networks without patches.
        mask_ratio: least and greatest share of the patches that are masked in an image.
        koleo_weight: weight of what spreads the vectors of a batch, per large crop; it sees no
            other rank's batch.
        prototypes_frozen: steps or share of the run at the start in which prototypes stay.
        final_weight_decay: what ``weight_decay`` goes to in half a cosine; None to let it be.
        mask_seed: what masks depend on, beside the step and the pictures.
        resize: how a picture of another shape is brought to the encoder's size in evaluation:
            ``pad``, ``crop`` or ``stretch``.
        learning_rate: peak learning rate of AdamW; DINOv2's is 4e-3 x sqrt(batch size / 1024).
        weight_decay: AdamW's decay of matrices; biases, norms and positions never decay.
        betas: AdamW's averaging of gradients and of their squares.
        warmup: steps (an integer) or share of the run (a float below 1) of linear warm-up.
        schedule: ``cosine``, ``linear`` or ``constant`` after the warm-up.
        min_learning_rate: share of the peak that the schedule ends at.

    Raises:
        ValueError: if an argument is out of range or does not fit the encoder, or, when ``fit``
            begins, the teacher's weights could not follow.

    Source:
        DINOv2 (Oquab et al., 2023), https://arxiv.org/abs/2304.07193: its published code's default
        settings, but for the sizes of the heads.

    Example:
        >>> from lit_vlm.encoders import TimmEncoder
        >>> encoder = TimmEncoder("test_resnet", layers=[2], image_size=64)
        >>> model = SelfDistillation(encoder, patch_weight=0, num_prototypes=64)
        >>> model.training_views.local_size, list(model.parts)
        (27, ['student', 'student_head'])
    """

    part_names = ("student", "student_head")

    def __init__(
        self,
        encoder: VisionEncoder,
        training_views: MultiCrop | None = None,
        num_prototypes: int = 4096,
        hidden_dim: int = 1024,
        bottleneck_dim: int = 256,
        shared_head: bool = True,
        targets: Literal["centring", "sinkhorn"] = "centring",
        center_momentum: int | float = 0.9,
        student_temperature: int | float = 0.1,
        teacher_temperatures: tuple[float, float] = (0.04, 0.07),
        temperature_warmup: int | float = 0.3,
        teacher_momentum: int | float = 0.992,
        patch_weight: int | float = 1.0,
        mask_ratio: tuple[float, float] = (0.1, 0.5),
        koleo_weight: int | float = 0.1,
        prototypes_frozen: int | float = 0.01,
        final_weight_decay: int | float | None = 0.4,
        mask_seed: int = 0,
        resize: Resize = "crop",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.04,
        betas: tuple[float, float] = (0.9, 0.999),
        warmup: int | float = 0.1,
        schedule: Schedule = "cosine",
        min_learning_rate: float = 0.0,
    ) -> None:
        super().__init__(
            encoder,
            teacher_momentum,
            final_weight_decay,
            resize,
            learning_rate,
            weight_decay,
            betas,
            warmup,
            schedule,
            min_learning_rate,
        )
        check_numbers(
            positive={
                "num_prototypes": num_prototypes,
                "student_temperature": student_temperature,
                "teacher_temperatures": min(teacher_temperatures),
                "weight_decay": 1.0 if final_weight_decay is None else weight_decay,
            },
            not_negative={"patch_weight": patch_weight, "koleo_weight": koleo_weight},
            shares={
                "center_momentum": (center_momentum,),
                "teacher_momentum": (teacher_momentum,),
                "mask_ratio": mask_ratio,
            },
        )
        self.student_temperature = student_temperature
        self.teacher_temperatures = teacher_temperatures
        self.temperature_warmup = steps_or_share(temperature_warmup, "SelfDistillation")
        self.patch_weight = patch_weight
        self.mask_ratio = mask_ratio
        self.koleo_weight = koleo_weight
        self.prototypes_frozen = steps_or_share(prototypes_frozen, "SelfDistillation")
        self.mask_seed = mask_seed
        self._local_crops = LocalCrops.of(training_views or MultiCrop(), encoder)
        self.training_views = self._local_crops.views
        self.student_head = DistillationHead(
            vector_dim(encoder), num_prototypes, hidden_dim, bottleneck_dim
        )
        self.teacher_head = teacher_of(self.student_head)
        self.class_targets = _make_targets(targets, num_prototypes, center_momentum)
        self.patch_targets = _make_targets(targets, num_prototypes, center_momentum)
        self.patch_mask = PatchMask(self.student) if patch_weight else None
        self.student_patch_head: DistillationHead | None = None
        self.teacher_patch_head: DistillationHead | None = None
        if patch_weight and not shared_head:
            self.student_patch_head = DistillationHead(
                encoder.dims[-1], num_prototypes, hidden_dim, bottleneck_dim
            )
            self.teacher_patch_head = teacher_of(self.student_patch_head)
        elif patch_weight:
            check_shared_head(encoder)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What trains: the student, its heads and its mask token."""
        names = ("student", "student_head", "student_patch_head", "patch_mask")
        return {name: part for name in names if (part := getattr(self, name)) is not None}

    @property
    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """The encoder and its student, and the heads of both."""
        pairs: list[tuple[nn.Module, nn.Module]] = [
            (self.encoder, self.student),
            (self.teacher_head, self.student_head),
        ]
        if self.teacher_patch_head is not None and self.student_patch_head is not None:
            pairs.append((self.teacher_patch_head, self.student_patch_head))
        return pairs

    @property
    def teacher_temperature(self) -> float:
        """Temperature of the teacher's softmax at this step."""
        steps = in_steps(self.temperature_warmup, self._total_steps)
        return rising(*self.teacher_temperatures, self.global_step, steps)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Let the prototypes be at the start of the run."""
        if self.global_step < in_steps(self.prototypes_frozen, self._total_steps):
            for head in (self.student_head, self.student_patch_head):
                for parameter in () if head is None else head.prototypes.parameters():
                    parameter.grad = None

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Make a step, and let the teacher and its centres follow."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.class_targets.end_step()
        self.patch_targets.end_step()

    def training_figures(self, batch: CropBatch) -> dict[str, Tensor]:
        """Return the loss of a batch, its terms, and how the teacher's targets are spread."""
        crops = rearrange(batch.global_crops, "g b c h w -> (g b) c h w")
        masks = self._draw_masks(batch)
        with torch.no_grad():
            taught = self.encoder(crops)
        seen = self._study(crops, masks)
        vectors = image_vector(seen)
        scores = self.student_head(torch.cat([vectors, *self._local_vectors(batch)]))
        targets = self.class_targets(
            self.teacher_head(image_vector(taught)), self.teacher_temperature
        )
        by_crop = partial(rearrange, pattern="(s b) k -> s b k", b=len(batch))
        loss = dino_loss(by_crop(scores), by_crop(targets), self.student_temperature)
        figures = {"class_loss": loss, **self._spread(targets, loss)}
        if masks is not None:
            figures["patch_loss"] = self._patch_loss(seen, taught, masks)
            loss = loss + self.patch_weight * figures["patch_loss"]
        if self.koleo_weight:
            each = torch.stack([koleo_loss(v) for v in vectors.chunk(len(batch.global_crops))])
            figures["koleo_loss"] = each.mean()
            loss = loss + self.koleo_weight * each.sum()
        return {"loss": loss, **figures}

    def _patch_loss(
        self, seen: VisualFeatures, taught: VisualFeatures, masks: Bool[Tensor, "B N"]
    ) -> Float[Tensor, ""]:
        student = self.student_patch_head or self.student_head
        teacher = self.teacher_patch_head or self.teacher_head
        targets = self.patch_targets(teacher(taught.levels[-1][masks]), self.teacher_temperature)
        scores = student(seen.levels[-1][masks])
        return patch_loss(scores, targets, masks, self.student_temperature)

    def _spread(
        self, targets: Float[Tensor, "B K"], class_loss: Float[Tensor, ""]
    ) -> dict[str, Tensor]:
        entropy, marginal = entropies(targets)
        return {
            "teacher_entropy": entropy,
            "teacher_marginal_entropy": marginal,
            # Each target is in equally many pairs, so the mean of their divergences is this.
            "student_teacher_kl": class_loss.detach() - entropy,
            "teacher_momentum": entropy.new_tensor(self.momentum),
            "teacher_temperature": entropy.new_tensor(self.teacher_temperature),
        }

    def _draw_masks(self, batch: CropBatch) -> Bool[Tensor, "B N"] | None:
        if self.patch_mask is None:
            return None
        random = np.random.default_rng([self.mask_seed, self.global_step, *batch.index.tolist()])
        num_images = batch.global_crops.shape[0] * batch.global_crops.shape[1]
        return draw_masks(num_images, self.encoder.grid, self.mask_ratio, random).to(self.device)

    def _study(
        self, crops: UInt8[Tensor, "B 3 H W"], masks: Bool[Tensor, "B N"] | None
    ) -> VisualFeatures:
        if self.patch_mask is None or masks is None:
            return self.student(crops)
        with self.patch_mask.over(masks):
            return self.student(crops)

    def _local_vectors(self, batch: CropBatch) -> list[Float[Tensor, "B D"]]:
        if not len(batch.local_crops):
            return []
        crops = rearrange(batch.local_crops, "l b c h w -> (l b) c h w")
        return [image_vector(self._local_crops.encode(self.student, crops))]


def _make_targets(kind: str, num_prototypes: int, center_momentum: int | float) -> TeacherTargets:
    if kind == "sinkhorn":
        return SinkhornKnopp()
    if kind != "centring":
        raise ValueError(
            f"SelfDistillation: targets must be 'centring' or 'sinkhorn', got {kind!r}."
        )
    return Centring(num_prototypes, center_momentum)
