"""Holding samples out by image, so that no image is on both sides."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from lit_vlm.data.rearranged import RearrangedPart, RearrangedSource
from lit_vlm.data.sources import ConversationSource, Subset

Place = tuple[int, int]
"""Which source, and which of its samples."""


def image_groups(sources: Sequence[ConversationSource]) -> list[list[Place]]:
    """Group samples that share an image, directly or through others; a text-only one is alone."""
    places = [(which, i) for which, source in enumerate(sources) for i in range(len(source))]
    parent = list(range(len(places)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[int, int] = {}
    for number, (which, index) in enumerate(places):
        for key in sources[which].image_keys(index):
            parent[root(number)] = root(first.setdefault(key, number))
    groups: dict[int, list[Place]] = {}
    for number, place in enumerate(places):
        groups.setdefault(root(number), []).append(place)
    return list(groups.values())


def hold_out(
    sources: Sequence[ConversationSource], shares: dict[str, float], seed: int
) -> list[dict[str, Subset]]:
    """Split sources into ``train`` and other splits, by image: none is in two splits of any.

    Args:
        sources: prepared sources; of one that rearranges another, the other is split.
        shares: share of the image groups to hold out for each split, between 0 and 1. A split stays
            the same when others are added behind it.
        seed: chooses the groups; the same seed always chooses the same.

    Returns:
        For each source the splits by name, ``train`` among them, each in the source's order.

    Raises:
        ValueError: if a split would be empty.
    """
    if any(isinstance(source, RearrangedSource) for source in sources):
        bases = [s.base if isinstance(s, RearrangedSource) else s for s in sources]
        parts = hold_out(bases, shares, seed)
        return [_rearranged(*pair) for pair in zip(sources, parts, strict=True)]
    places = _split(image_groups(sources), shares, seed)
    split = [
        {name: [i for at, i in chosen if at == which] for name, chosen in places.items()}
        for which in range(len(sources))
    ]
    for source, parts_of in zip(sources, split, strict=True):
        _check_parts(source, parts_of, shares)
    return [
        {name: Subset(source, sorted(indices)) for name, indices in parts_of.items()}
        for source, parts_of in zip(sources, split, strict=True)
    ]


def _rearranged(source: ConversationSource, parts: dict[str, Subset]) -> dict[str, Subset]:
    if not isinstance(source, RearrangedSource):
        return parts
    return {name: RearrangedPart(source, part) for name, part in parts.items()}


def _split(
    groups: list[list[Place]], shares: dict[str, float], seed: int
) -> dict[str, list[Place]]:
    # Groups of the same sources are split apart from others, so that each source gives its share.
    alike: dict[frozenset[int], list[list[Place]]] = {}
    for group in groups:
        alike.setdefault(frozenset(which for which, _ in group), []).append(group)
    parts: dict[str, list[Place]] = {"train": [], **{name: [] for name in shares}}
    owed = dict.fromkeys(shares, 0.0)
    for some in alike.values():
        order = np.random.default_rng(seed).permutation(len(some)).tolist()
        begin = 0
        for name, share in shares.items():
            wanted = len(some) * share + owed[name]
            end = min(begin + max(round(wanted), 0), len(some))
            owed[name] = wanted - (end - begin)  # for the next, lest small ones give nothing
            parts[name] += [place for at in order[begin:end] for place in some[at]]
            begin = end
        parts["train"] += [place for at in order[begin:] for place in some[at]]
    return parts


def _check_parts(
    source: ConversationSource, parts: dict[str, list[int]], shares: dict[str, float]
) -> None:
    for empty in (name for name, indices in parts.items() if not indices):
        name = list(shares)[-1] if empty == "train" else empty
        groups = len(image_groups([source]))
        path = getattr(source, "path", None)
        named = f"{type(source).__name__}{f' ({path})' if path else ''}"
        raise ValueError(
            f"hold_out: {name} must leave images on both sides, got the share {shares[name]} of "
            f"{groups} groups of samples of a {named} that share no image. Give "
            f"another share, or a source of its own."
        )


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
