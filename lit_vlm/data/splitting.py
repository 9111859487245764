"""Holding samples out by image, so that no image is on both sides."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from lit_vlm.data.sources import ConversationSource, Subset


def image_groups(source: ConversationSource) -> list[list[int]]:
    """Group samples that share an image, directly or through others; a text-only one is alone."""
    parent = list(range(len(source)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[int, int] = {}
    for index in range(len(source)):
        for key in source.image_keys(index):
            parent[root(index)] = root(first.setdefault(key, index))
    groups: dict[int, list[int]] = {}
    for index in range(len(source)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())


def hold_out(source: ConversationSource, share: float, seed: int) -> tuple[Subset, Subset]:
    """Split a source into training and validation samples, by image.

    Args:
        source: a prepared source.
        share: share of the image groups to hold out, between 0 and 1.
        seed: chooses the groups; the same seed always chooses the same.

    Returns:
        The samples to train on and those held out, each in the source's order.

    Raises:
        ValueError: if either side would be empty.
    """
    groups = image_groups(source)
    count = round(len(groups) * share)
    if not 0 < count < len(groups):
        raise ValueError(
            f"hold_out: val must leave images on both sides, got the share {share} of "
            f"{len(groups)} groups of samples that share no image."
        )
    held = set(np.random.default_rng(seed).permutation(len(groups))[:count].tolist())
    val = sorted(index for i in held for index in groups[i])
    train = sorted(index for i, group in enumerate(groups) if i not in held for index in group)
    return Subset(source, train), Subset(source, val)


def shared_images(one: ConversationSource, other: ConversationSource) -> int:
    """Count the images that two sources have in common."""
    keys = [{k for i in range(len(s)) for k in s.image_keys(i)} for s in (one, other)]
    return len(keys[0] & keys[1])


def warn_about_shared_images(
    train: Sequence[ConversationSource], val: Sequence[ConversationSource]
) -> None:
    """Warn if images are in the training and in the validation data."""
    if shared := sum(shared_images(one, other) for one in train for other in val):
        rank_zero_warn(
            f"{shared} images are in the training and in the validation data; the validation "
            f"figures flatter the model. val: 0.05 holds a share of the training images out."
        )
