"""What a module sees in pictures, and makes of texts, when it is evaluated untouched."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.encoder_vectors import LabelledVectors, collect_vectors, level_vectors
from lit_vlm.encoders.base import VisionEncoder
from lit_vlm.zero_shot import class_embeddings

EMBEDDING = "embedding"
"""The name of a module's own vectors of images, beside those of its encoder's levels."""


def encoder_of(module: nn.Module) -> VisionEncoder:
    """Return the module itself or its ``encoder``, whichever is a vision encoder.

    Raises:
        TypeError: if neither is.
    """
    for candidate in (module, getattr(module, "encoder", None)):
        if isinstance(candidate, VisionEncoder):
            return candidate
    raise TypeError(
        f"FeatureEvaluation: the module must be a VisionEncoder or have one as encoder, got "
        f"{type(module).__name__}."
    )


def has_encoder(module: nn.Module) -> bool:
    """Whether ``encoder_of`` finds one."""
    return any(isinstance(c, VisionEncoder) for c in (module, getattr(module, "encoder", None)))


def embeds_texts(module: nn.Module) -> bool:
    """Whether a module can compare images with texts: ``embed_images``, ``embed_texts``."""
    return all(hasattr(module, name) for name in ("embed_images", "embed_texts", "tokenize"))


def collect(module: Any, batches: Iterable[Any], with_embedding: bool) -> LabelledVectors:
    """Return vectors of labelled pictures from every level of a module's encoder.

    Args:
        module: an encoder, or what has one.
        batches: this rank's share of the pictures.
        with_embedding: also what the module embeds images as, under ``EMBEDDING``.
    """
    encoder = encoder_of(module)

    def see(images: Tensor) -> dict[str, Tensor]:
        vectors = level_vectors(encoder, encoder(images))
        return {**vectors, EMBEDDING: module.embed_images(images)} if with_embedding else vectors

    size = (1, 3, *encoder.image_size)
    return collect_vectors(see, torch.zeros(size, dtype=torch.uint8, device=module.device), batches)


def name_classes(
    module: Any, classes: Sequence[str], templates: Sequence[str]
) -> Float[Tensor, "K D"]:
    """Return what a module embeds the names of classes as; see ``class_embeddings``."""

    def embed(texts: list[str]) -> Tensor:
        input_ids, attention_mask = module.tokenize(texts)
        return module.embed_texts(input_ids.to(module.device), attention_mask.to(module.device))

    return class_embeddings(classes, templates, embed)
