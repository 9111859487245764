"""Evaluation by retrieval: pictures from captions and captions from pictures."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float, Int, Shaped
from torch import Tensor

from lit_vlm.data.image_batches import PairBatch
from lit_vlm.metrics.retrieval import RetrievalRecall
from lit_vlm.pretraining.base import PretrainingModule


class RetrievingModule(PretrainingModule, ABC):
    """A pretraining that embeds pictures and texts, which validation and test retrieve.

    The candidates are all pictures, or all captions, of the data of all processes.
    """

    evaluation_methods = ("embed_images", "embed_texts")

    @abstractmethod
    def embed_images(self, images: Shaped[Tensor, "B 3 _ _"]) -> Float[Tensor, "B D"]:
        """Return embeddings of length 1 of RGB images, uint8 or float in [0, 1]."""

    @abstractmethod
    def embed_texts(
        self, input_ids: Int[Tensor, "C T"], attention_mask: Int[Tensor, "C T"]
    ) -> Float[Tensor, "C D"]:
        """Return embeddings of length 1 of texts, from what ``tokenize`` returns."""

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Embed pictures and captions of a batch."""
        self._collect(batch, "val")

    def test_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Embed pictures and captions of a batch."""
        self._collect(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the recalls over all ranks."""
        self._log_recalls()

    def on_test_epoch_end(self) -> None:
        """Log the recalls over all ranks."""
        self._log_recalls()

    def _collect(self, batch: PairBatch, stage: str) -> None:
        recall = self._metrics.setdefault(stage, RetrievalRecall().to(self.device))
        images = self.embed_images(batch.images)
        texts = self.embed_texts(batch.input_ids, batch.attention_mask)
        recall.update(images, batch.index, texts, batch.caption_index)

    def _log_recalls(self) -> None:
        # They are the same on all ranks already; Lightning wants to be told to reduce them.
        how: dict[str, Any] = {"sync_dist": True}
        for stage, recall in self._metrics.items():
            for name, value in recall.compute().items():
                self.log(f"{stage}/{name}", value, prog_bar=name.endswith("_r1"), **how)
            self.log(f"{stage}/pictures", float(recall.num_images), **how)
        self._metrics = {}
