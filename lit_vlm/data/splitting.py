"""Holding samples out by image, so that no image is on both sides."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from lit_vlm.data.rearranged import RearrangedPart, RearrangedSource
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


def hold_out(source: ConversationSource, shares: dict[str, float], seed: int) -> dict[str, Subset]:
    """Split a source into ``train`` and other splits, by image.

    Args:
        source: a prepared source; of one that rearranges another, the other is split.
        shares: share of the image groups to hold out for each split, between 0 and 1. A split stays
            the same when others are added behind it.
        seed: chooses the groups; the same seed always chooses the same.

    Returns:
        The splits by name, ``train`` among them, each in the source's order.

    Raises:
        ValueError: if a split would be empty.
    """
    if isinstance(source, RearrangedSource):
        base = hold_out(source.base, shares, seed)
        return {name: RearrangedPart(source, part) for name, part in base.items()}
    groups = image_groups(source)
    order = np.random.default_rng(seed).permutation(len(groups)).tolist()
    parts: dict[str, Subset] = {}
    begin = 0
    for name, share in shares.items():
        end = begin + round(len(groups) * share)
        if not begin < end < len(groups):
            raise ValueError(
                f"hold_out: {name} must leave images on both sides, got the share {share} of "
                f"{len(groups)} groups of samples that share no image."
            )
        parts[name] = Subset(source, sorted(i for place in order[begin:end] for i in groups[place]))
        begin = end
    rest = sorted(i for place in order[begin:] for i in groups[place])
    return {"train": Subset(source, rest), **parts}


def shared_images(one: ConversationSource, other: ConversationSource) -> int:
    """Count the images that two sources have in common."""
    keys = [{k for i in range(len(s)) for k in s.image_keys(i)} for s in (one, other)]
    return len(keys[0] & keys[1])


def warn_about_shared_images(
    seen: Sequence[ConversationSource], held: Sequence[ConversationSource], names: str
) -> None:
    """Warn if images are in two splits that should have none in common.

    Args:
        seen: sources that trained or chose the model.
        held: sources that judge it.
        names: of the two splits, for the message.
    """
    if shared := sum(shared_images(one, other) for one in seen for other in held):
        rank_zero_warn(
            f"{shared} images are in the {names} data; the {names.split()[-1]} figures flatter the "
            f"model. val: 0.05 or selection: 0.05 holds a share of the training images out."
        )
