"""Recall of retrieval, from images to texts and back."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

_CELLS = 1 << 22  # similarities held at once: 32 MB
_ROUNDING = 1e-9  # of sums in double precision, with room


class RetrievalRecall(Metric):
    """Share of images, and of texts, that find their counterpart among the K most similar.

    An image finds its counterpart if any of its texts is among the K texts most similar to it; a
    text, if its own image is. Ties count against the model: what is as similar as the counterpart
    stands before it, so an encoder that gives all the same vector scores 0, not what the order of
    the data gives. Not-a-number is no hit either. Images without texts are candidates only.

    An image that several ranks or batches hold counts once, with its texts. What is kept are the
    embeddings; similarities are computed a chunk at a time.

    Args:
        ks: the numbers K.
        kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        ValueError: if a K is less than 1; on ``update``, if a text comes without its image.

    Source:
        CLIP_benchmark (LAION), https://github.com/LAION-AI/CLIP_benchmark,
        ``zeroshot_retrieval.py``; it leaves the order of ties to ``torch.topk``.

    Example:
        >>> metric, axes = RetrievalRecall(ks=(1, 2)), torch.eye(3)
        >>> metric.update(axes, torch.arange(3), axes[[0, 2, 2]], torch.tensor([0, 1, 2]))
        >>> {name: round(float(value), 2) for name, value in metric.compute().items()}
        {'image_to_text_r1': 0.33, 'image_to_text_r2': 0.67,
         'text_to_image_r1': 0.67, 'text_to_image_r2': 0.67}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    images: list[Tensor]
    image_places: list[Tensor]
    texts: list[Tensor]
    text_places: list[Tensor]

    def __init__(self, ks: Sequence[int] = (1, 5, 10), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not ks or min(ks) < 1:
            raise ValueError(f"RetrievalRecall: ks must be numbers from 1 on, got {list(ks)}.")
        self.ks = tuple(ks)
        self.num_images = 0
        self.num_texts = 0
        for name in ("images", "image_places", "texts", "text_places"):
            self.add_state(name, [], dist_reduce_fx=_joined)

    def update(
        self,
        image_embeddings: Float[Tensor, "B D"],
        image_index: Int[Tensor, "B"],
        text_embeddings: Float[Tensor, "C D"],
        text_image_index: Int[Tensor, "C"],
    ) -> None:
        """Add images with all their texts.

        Args:
            image_embeddings: a vector of length one for each image.
            image_index: place of each image in the data set.
            text_embeddings: a vector of length one for each text.
            text_image_index: for each text, the place in the data set of its image.
        """
        number = _number_within_image(text_image_index, image_index)
        self.images.append(image_embeddings.detach().float())
        self.image_places.append(image_index[:, None].long())
        self.texts.append(text_embeddings.detach().float())
        self.text_places.append(torch.stack([text_image_index.long(), number], dim=1))

    def compute(self) -> dict[str, Tensor]:
        """Return the recalls between 0 and 1, each as ``image_to_text_r1`` and the like.

        All are nan without images.
        """
        images, image_index = _each_once(self.images, self.image_places)
        texts, text_image_index = _each_once(self.texts, self.text_places)
        there = places_of_counterparts(images, image_index, texts, text_image_index)
        back = places_of_counterparts(texts, text_image_index, images, image_index)
        self.num_images, self.num_texts = len(there), len(back)
        return {
            f"{direction}_r{k}": (places < k).float().mean().to(self.device)
            for direction, places in (("image_to_text", there), ("text_to_image", back))
            for k in self.ks
        }

    def _sync_dist(self, dist_sync_fn: Any = gather_all_tensors, process_group: Any = None) -> None:
        # One tensor each, so that all ranks gather equally often, also those without samples.
        for name in self._reductions:
            setattr(self, name, [_joined(getattr(self, name)).to(self.device)])
            if not getattr(self, name)[0].numel():
                dtype = torch.long if name.endswith("places") else torch.float32
                setattr(self, name, [torch.zeros(0, 0, dtype=dtype, device=self.device)])
        super()._sync_dist(dist_sync_fn, process_group)


def places_of_counterparts(
    queries: Float[Tensor, "Q D"],
    query_labels: Int[Tensor, "Q"],
    candidates: Float[Tensor, "N D"],
    candidate_labels: Int[Tensor, "N"],
) -> Int[Tensor, "R"]:
    """Return the place, from 0, of the first candidate with each query's own label.

    Candidates that are as similar as it, by the dot product, stand before it. Queries whose label
    no candidate has are left out.
    """
    if not len(queries) or not len(candidates):
        return query_labels.new_zeros(0)
    places, size = [], max(1, _CELLS // len(candidates))
    for start in range(0, len(queries), size):
        chunk = slice(start, start + size)
        similarity = queries[chunk].double() @ candidates.double().T
        own = query_labels[chunk, None] == candidate_labels
        best = similarity.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        # "Not below" instead of "above or equal", which not-a-number is not.
        before = ~own & ~(similarity < best - _ROUNDING)
        places.append(before.sum(1)[own.any(1)])
    return torch.cat(places)


def _number_within_image(text_image_index: Tensor, image_index: Tensor) -> Tensor:
    """Return which text of its image each is; repetitions of an image number its texts anew."""
    images, place = torch.unique(torch.cat([image_index, text_image_index]), return_inverse=True)
    held = torch.bincount(place[: len(image_index)], minlength=len(images))
    place = place[len(image_index) :]
    counts = torch.bincount(place, minlength=len(images))
    if bool((held == 0).any()) or bool((counts % held).any()):
        raise ValueError(
            "RetrievalRecall: texts must come in the same call as their image, and as often, got "
            "others. Give each image together with all its texts."
        )
    order = torch.argsort(place, stable=True)
    first = counts.cumsum(0) - counts
    number = torch.empty_like(place)
    number[order] = torch.arange(len(place), device=place.device) - first[place[order]]
    return number % (counts // held)[place]


def _each_once(rows: Any, places: Any) -> tuple[Tensor, Tensor]:
    """Return one row for each place, and the places' first column."""
    vectors, keys = _joined(rows), _joined(places)
    if vectors.device.type == "mps":  # it has no double precision
        vectors, keys = vectors.cpu(), keys.cpu()
    if not len(keys):
        return vectors, torch.zeros(0, dtype=torch.long, device=keys.device)
    unique, inverse = torch.unique(keys, dim=0, return_inverse=True)
    every = torch.arange(len(keys), device=keys.device)
    row = torch.full_like(inverse[: len(unique)], len(keys))
    return vectors[row.scatter_reduce(0, inverse, every, "amin")], unique[:, 0]


def _joined(parts: Any) -> Tensor:
    # After synchronisation it is one tensor already.
    if isinstance(parts, Tensor):
        return parts
    filled = [part for part in parts if part.numel()]
    return torch.cat(filled) if filled else torch.zeros(0, 0)
