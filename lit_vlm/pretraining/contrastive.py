"""Pretraining by pictures and captions."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from jaxtyping import Float, Int, Shaped
from lightning import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lit_vlm.data import ImageTextDataModule
from lit_vlm.data.image_batches import PairBatch
from lit_vlm.encoders import VisionEncoder
from lit_vlm.encoders.pooling import image_vector, vector_dim
from lit_vlm.freezing import trains
from lit_vlm.images import Resize
from lit_vlm.language_models.text_encoder import TextEncoder
from lit_vlm.optim import Schedule
from lit_vlm.part_rates import PartLR
from lit_vlm.pretraining.contrastive_head import ContrastiveHead, ContrastiveLoss
from lit_vlm.pretraining.gradient_caching import recomputed
from lit_vlm.pretraining.lock_letters import LockLetters, TowerPlan
from lit_vlm.pretraining.locked_features import LockedFeatures, can_be_computed_once, locked_vectors
from lit_vlm.pretraining.retrieving import RetrievingModule
from lit_vlm.pretraining.sigmoid_loss import sigmoid_contrastive_loss
from lit_vlm.pretraining.softmax_loss import softmax_contrastive_loss
from lit_vlm.pretraining.tokenizer_from_captions import prepare_tokenizer
from lit_vlm.stages import Stage


class ContrastivePretraining(RetrievingModule):
    """Train an encoder and a text encoder to agree on which caption belongs to which picture.

    ``softmax`` is CLIP's loss, ``sigmoid`` SigLIP's, better below 16,000 pairs a batch; both are
    taken over the batches of all processes. What an encoder pools (``pool: true``), or else the
    mean of the patches of its last level, stands for a picture. Validation and test log the recall
    of retrieval in both directions (``val/image_to_text_r1``, ``val/text_to_image_r5``, ...); they
    log no loss, which would depend on how pictures fall into batches.

    LiT's letters lock towers: ``towers: Lu`` tunes a new text encoder to a pretrained image tower
    that stays as it is. Without augmentation, each picture then passes that tower once in a run.

    Args:
        encoder: the encoder that the run makes.
        text_encoder: reads the captions. Without a tokenizer, it gets one from the training
            captions.
        loss: ``softmax`` or ``sigmoid``.
        embed_dim: width of the embeddings; None for the image tower's own, which then has no
            projection, as in LiT.
        towers: two letters, the image tower's first: ``L`` pretrained and locked, ``U`` pretrained
            and trained, ``u`` new and trained. None: callbacks say what trains.
        image_multiplier: of the image tower's learning rate.
        text_multiplier: of the text tower's learning rate.
        unlock_after: optimizer steps (an integer) or share of the run (a float below 1) in which a
            ``U`` image tower is locked, too. The steps before and after it have a schedule each.
        same_captions: whether the picture of an equal caption in a batch is ``left_out`` of what a
            caption is told apart from, or counts among its ``negatives``, as in CLIP.
        micro_batch_size: pairs that pass the towers at a time, whatever the size of the batch, to
            save memory: they pass again in the backward pass. Loss and gradients are the batch's,
            but for BatchNorm, which sees micro-batches.
        cache_features: compute the vectors of a locked image tower once, and keep them in memory.
            None: where that is possible; True: or else refuse to train; False: never.
        locked_chunk_size: pictures that pass a tower that does not train at a time.
        resize: how a picture of another shape is brought to the encoder's size: ``pad``, ``crop``
            or ``stretch``.
        learning_rate: peak learning rate of AdamW.
        weight_decay: AdamW's decay of matrices; biases, norms, positions, temperature and bias of
            the loss never decay.
        betas: AdamW's averaging of gradients and of their squares.
        warmup: steps (an integer) or share of the run (a float below 1) of linear warm-up.
        schedule: ``cosine``, ``linear`` or ``constant`` after the warm-up.
        min_learning_rate: share of the peak that the schedule ends at.

    Raises:
        ValueError: if an argument is out of range; when ``fit`` begins, if ``towers`` does not go
            with the towers' ``pretrained`` or with callbacks, or ``cache_features`` is impossible.

    Source:
        CLIP (Radford et al., 2021), https://arxiv.org/abs/2103.00020; SigLIP (Zhai et al., 2023),
        https://arxiv.org/abs/2303.15343; LiT (Zhai et al., 2022),
        https://arxiv.org/abs/2111.07991.

    Example:
        >>> import torch
        >>> from lit_vlm.encoders import TimmEncoder
        >>> sizes = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 32}
        >>> sizes |= {"num_hidden_layers": 1, "num_attention_heads": 2}
        >>> eye = TimmEncoder("test_resnet", layers=[2], image_size=64)
        >>> model = ContrastivePretraining(eye, TextEncoder(config=sizes), loss="sigmoid")
        >>> model.embed_images(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 48])
    """

    reads = ImageTextDataModule
    best_by = "val/text_to_image_r1"
    part_names = ("encoder", "text_encoder", "head")

    @classmethod
    def plan_of(cls, options: dict[str, Any]) -> tuple[dict[str, Stage], dict[str, PartLR]]:
        """Return the stages and rates that ``towers`` and what goes with it imply."""
        names = ("image_multiplier", "text_multiplier", "unlock_after")
        plan = TowerPlan(options.get("towers"), **{n: options[n] for n in names if n in options})
        return plan.stages, plan.rates

    def __init__(
        self,
        encoder: VisionEncoder,
        text_encoder: TextEncoder,
        loss: ContrastiveLoss = "softmax",
        embed_dim: int | None = None,
        towers: LockLetters | None = None,
        image_multiplier: int | float = 1.0,
        text_multiplier: int | float = 1.0,
        unlock_after: int | float = 0,
        same_captions: Literal["left_out", "negatives"] = "left_out",
        micro_batch_size: int | None = None,
        cache_features: bool | None = None,
        locked_chunk_size: int = 16,
        resize: Resize = "pad",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.95),
        warmup: int | float = 0.05,
        schedule: Schedule = "cosine",
        min_learning_rate: float = 0.0,
    ) -> None:
        super().__init__(
            encoder,
            resize,
            learning_rate,
            weight_decay,
            betas,
            warmup,
            schedule,
            min_learning_rate,
        )
        _check_sizes(same_captions, micro_batch_size, locked_chunk_size)
        self.plan = TowerPlan(towers, image_multiplier, text_multiplier, unlock_after)
        self.text_encoder = text_encoder
        self.head = ContrastiveHead(vector_dim(encoder), text_encoder.dim, embed_dim, loss)
        self.loss: ContrastiveLoss = loss
        self.same_captions = same_captions
        self.micro_batch_size = micro_batch_size
        self.cache_features = cache_features
        self.locked_chunk_size = locked_chunk_size
        self._is_restored = False
        self._features: LockedFeatures | None = None

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Both towers, and what is behind them."""
        return {"encoder": self.encoder, "text_encoder": self.text_encoder, "head": self.head}

    @property
    def wants_images(self) -> bool:
        """Whether training looks at pictures; not while it has their vectors."""
        return self._features is None

    @property
    def tokenize(self) -> Callable[[Sequence[str]], tuple[Tensor, Tensor]]:
        """The text encoder's ``tokenize``, which data modules read captions by."""
        return self.text_encoder.tokenize

    def embed_images(self, images: Shaped[Tensor, "B 3 _ _"]) -> Float[Tensor, "B D"]:
        """Return embeddings of length 1 of RGB images, uint8 or float in [0, 1]."""
        return self.head.embed_images(image_vector(self.encoder(images)))

    def embed_texts(
        self, input_ids: Int[Tensor, "C T"], attention_mask: Int[Tensor, "C T"]
    ) -> Float[Tensor, "C D"]:
        """Return embeddings of length 1 of texts, from what ``tokenize`` returns."""
        return self.head.embed_texts(self.text_encoder(input_ids, attention_mask))

    def forward(self, batch: PairBatch) -> Float[Tensor, ""]:
        """Return the loss of a batch, with those of the other processes."""
        images, texts = self._images_of(batch), self._texts_of(batch)
        ids = batch.text_ids if self.same_captions == "left_out" else None
        if self.loss == "softmax":
            return softmax_contrastive_loss(images, texts, self.head.scale, ids)
        return sigmoid_contrastive_loss(images, texts, self.head.scale, self.head.bias, ids)

    def training_figures(self, batch: PairBatch) -> dict[str, Tensor]:
        """Return the loss, and the temperature's inverse and the bias that it was taken with."""
        figures = {"loss": self(batch), "logit_scale": self.head.scale[0]}
        return figures if self.loss == "softmax" else figures | {"logit_bias": self.head.bias[0]}

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return what locks the towers and slows them down."""
        return self.plan.callbacks(self.trainer) if self.trainer.state.fn == "fit" else []

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Give the parts their own state; their weights are no longer what they were made with."""
        super().on_load_checkpoint(checkpoint)
        self._is_restored = True

    def on_fit_start(self) -> None:
        """Check the towers, make a tokenizer if there is none, and see if vectors can be kept."""
        if not self._is_restored and self.trainer.ckpt_path is None:
            self.plan.check_weights(self.encoder, self.text_encoder)
        prepare_tokenizer(self.text_encoder, self.trainer)
        self._check_trainer()
        self._features = None
        datamodule = getattr(self.trainer, "datamodule", None)
        needed = bool(self.cache_features)
        if self.cache_features is not False and can_be_computed_once(self, datamodule, needed):
            self._compute_features(datamodule)

    def on_fit_end(self) -> None:
        """Forget the vectors."""
        self._features = None

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and keep the temperature in bounds."""
        super().optimizer_step(*args, **kwargs)
        self.head.bound()

    def _compute_features(self, datamodule: Any) -> None:
        # Loaders draw random numbers, which the steps to come must not miss; and mixed precisions
        # must be those of a step.
        with isolate_rng(), self.trainer.precision_plugin.forward_context():
            self._features = LockedFeatures.compute(
                self.encoder, datamodule.pictures_loader(), self.locked_chunk_size, self.device
            )
        if self._features.bad:
            datamodule.pass_over(self._features.bad)
        rank_zero_info(
            f"The vectors of {len(self._features):,} training pictures were computed once: "
            f"{self._features.megabytes:,.1f} MB of memory on each process."
        )

    def _images_of(self, batch: PairBatch) -> Tensor:
        if self._features is not None:
            return self.head.embed_images(self._features.rows(batch.index))
        if trains(self.encoder):
            return recomputed(
                lambda images: self.head.embed_images(image_vector(self.encoder(images))),
                batch.images,
                self.micro_batch_size,
            )
        return self.head.embed_images(
            locked_vectors(self.encoder, batch.images, self.locked_chunk_size)
        )

    def _texts_of(self, batch: PairBatch) -> Tensor:
        return recomputed(
            lambda ids, mask: self.head.embed_texts(self.text_encoder(ids, mask)),
            (batch.input_ids, batch.attention_mask),
            self.micro_batch_size,
        )

    def _check_trainer(self) -> None:
        if self.trainer.precision in ("bf16-true", "16-true"):
            raise ValueError(
                f"ContrastivePretraining: precision must keep weights in 32 bits, got "
                f"{self.trainer.precision}, in which the temperature and the bias of the loss, of "
                f"which 10 is large, do not move by small steps. Use bf16-mixed."
            )
        normed = (m for m in self.encoder.modules() if isinstance(m, _BatchNorm))
        if self.micro_batch_size and trains(self.encoder) and any(True for _ in normed):
            rank_zero_warn(
                f"ContrastivePretraining: the encoder has BatchNorm, which sees micro-batches of "
                f"{self.micro_batch_size} pictures: the loss is not that of the batch as a whole."
            )
        if self.trainer.accumulate_grad_batches > 1:
            rank_zero_warn(
                "ContrastivePretraining: accumulate_grad_batches does not make the batch larger "
                "that captions are told apart in. Take a larger batch_size, and micro_batch_size "
                "for less memory."
            )


def _check_sizes(same_captions: str, micro_batch_size: int | None, chunk_size: int) -> None:
    if same_captions not in ("left_out", "negatives"):
        raise ValueError(
            f"ContrastivePretraining: same_captions must be 'left_out' or 'negatives', got "
            f"{same_captions!r}."
        )
    for name, size in (("micro_batch_size", micro_batch_size), ("locked_chunk_size", chunk_size)):
        if size is not None and size < 1:
            raise ValueError(f"ContrastivePretraining: {name} must be at least 1, got {size}.")
