"""Where in a network's depth a parameter is, for learning rates that decay layer by layer."""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from torch import nn

_STACKS = frozenset(("blocks", "block", "layers", "layer", "h", "resblocks", "stages", "stage"))
_INNER_STACKS = frozenset(("blocks", "layers"))
_NUMBERED = re.compile(r"\w*?(layer|block|stage)_?\d+")  # layer1, denseblock1, encoder_layer_0
_TOKEN_OR_POSITION = re.compile(r"token|pos|emb|cls|class_|wpe|wte|register")
_OUTPUT = re.compile(r"head|classifier|logit|projection|pool|_out$|^proj$|^fc")
_EMBEDDING = re.compile(r"(^|_)(embed|embedding|emb)(s|dings)?($|_)")


class LayerId(NamedTuple):
    """The place of a parameter.

    Attributes:
        id: 0 for patch embedding, positions and class tokens, ``i + 1`` for block ``i``, and
            ``depth + 1`` for the final norm, the head and everything else.
        depth: blocks of the stack that the parameter belongs to.
    """

    id: int
    depth: int

    def scale(self, decay: float) -> float:
        """Return what the learning rate is multiplied by."""
        return float(decay ** (self.depth + 1 - self.id))


def layer_ids(part: nn.Module) -> dict[str, LayerId]:
    """Return where each parameter of a network is, by name; nothing if it has no blocks.

    Blocks are modules with numbers for names: ``blocks.3``, ``encoder.layer.3``, ``h.3``,
    ``resblocks.3``, ``layer2.1``, ``stages.1.blocks.3``. Stages count on through their blocks;
    what is between two stages goes with the block after it. Several stacks side by side (the
    encoder and decoder of T5, the networks of an ensemble) each count their own. Other parameters
    are embeddings if they stand before the first block of the nearest stack, else outputs; a tensor
    that belongs to no module inside (``logit_scale``, ``proj``) only if its name says so.

    Args:
        part: the network. A tensor that it has twice is listed by its first name.

    Source:
        MAE (He et al., 2022), https://github.com/facebookresearch/mae, ``util/lr_decay.py``, after
        BEiT; the rule for names there is for one class, this one for most.

    Example:
        >>> blocks = nn.ModuleList([nn.TransformerEncoderLayer(4, 1, 4)])
        >>> ids = layer_ids(nn.ModuleDict({"stem": nn.Linear(4, 4), "blocks": blocks}))
        >>> ids["stem.weight"], ids["blocks.0.norm1.weight"]
        (LayerId(id=0, depth=1), LayerId(id=1, depth=1))
    """
    names = [tuple(name.split(".")) for name, _ in part.named_parameters()]
    found = [_find_block(part, name) for name in names]
    stacks: dict[tuple[tuple[str, ...], str], _Stack] = {}
    for place, block in enumerate(found):
        if block is not None:
            key = (block.prefix, block.kind)
            stacks.setdefault(key, _Stack(block.prefix)).add(block, place)
    if not stacks:
        return {}
    ids = {}
    for place, (name, block) in enumerate(zip(names, found, strict=True)):
        if block is not None:
            ids[".".join(name)] = stacks[block.prefix, block.kind].place_of(block, place)
        else:
            stack = _nearest(name, list(stacks.values()))
            ids[".".join(name)] = LayerId(_id_outside(name, place, stack), len(stack.blocks))
    return ids


class _Block(NamedTuple):
    """Where in a name a block is: ``outer`` is its stage, or the block itself."""

    prefix: tuple[str, ...]
    kind: str
    outer: tuple[str, ...]
    inner: tuple[str, ...] | None


class _Stack:
    """The blocks that follow each other, in the order of the network."""

    def __init__(self, prefix: tuple[str, ...]) -> None:
        self.prefix = prefix
        self._found: list[tuple[_Block, int]] = []

    def add(self, block: _Block, place: int) -> None:
        self._found.append((block, place))

    @cached_property
    def blocks(self) -> dict[tuple[str, ...], int]:
        """The place where each block begins; a stage that has no blocks inside is one."""
        stages = {block.outer for block, _ in self._found if block.inner is not None}
        begins: dict[tuple[str, ...], int] = {}
        for block, place in self._found:
            if block.inner is not None or block.outer not in stages:
                begins.setdefault(block.inner or block.outer, place)
        return begins

    def place_of(self, block: _Block, place: int) -> LayerId:
        names = list(self.blocks)
        own = block.inner or block.outer
        if own not in self.blocks:  # between the blocks of its stage, or behind them
            mine = [name for name in names if name[: len(block.outer)] == block.outer]
            own = next((name for name in mine if self.blocks[name] > place), mine[-1])
        return LayerId(names.index(own) + 1, len(names))


def _find_block(part: nn.Module, name: tuple[str, ...]) -> _Block | None:
    for start, piece in enumerate(name[:-1]):
        following = name[start + 1]
        if piece in _STACKS and (following.isdigit() or _NUMBERED.fullmatch(following)):
            kind, end = piece, start + 2
        elif numbered := _NUMBERED.fullmatch(piece):
            kind, end = numbered[1], start + 1
        else:
            continue
        if _is_leaf(part, name[:end]):
            continue
        return _Block(name[:start], kind, name[:end], _find_inner(part, name, end))
    return None


def _find_inner(part: nn.Module, name: tuple[str, ...], end: int) -> tuple[str, ...] | None:
    rest = name[end:]
    if rest[0].isdigit() or (_NUMBERED.fullmatch(name[end - 1]) and _NUMBERED.fullmatch(rest[0])):
        end += 1
    elif len(rest) > 1 and rest[0] in _INNER_STACKS and rest[1].isdigit():
        end += 2
    else:
        return None
    return None if _is_leaf(part, name[:end]) else name[:end]


def _is_leaf(part: nn.Module, name: tuple[str, ...]) -> bool:
    # A list of linear layers is an MLP, not a stack of blocks.
    try:
        module = part.get_submodule(".".join(name))
    except AttributeError:
        return True  # a list of tensors
    return not any(True for _ in module.children())


def _nearest(name: tuple[str, ...], stacks: Sequence[_Stack]) -> _Stack:
    def nearness(stack: _Stack) -> tuple[int, int]:
        return _shared(name, stack.prefix), -len(stack.prefix)

    return max(stacks, key=nearness)


def _shared(name: tuple[str, ...], prefix: tuple[str, ...]) -> int:
    same = [one == other for one, other in zip(name[:-1], prefix, strict=False)]
    return same.index(False) if False in same else len(same)


def _id_outside(name: tuple[str, ...], place: int, stack: _Stack) -> int:
    begins = list(stack.blocks.values())
    rest = name[_shared(name, stack.prefix) :]
    if place > begins[0]:
        # Behind all blocks there are outputs, and embeddings whose class lists them late.
        later = [number for number, begin in enumerate(begins, start=1) if begin > place]
        late = 0 if _EMBEDDING.search(rest[0]) and not _OUTPUT.search(rest[0]) else len(begins) + 1
        return later[0] if later else late
    inside = len(rest) > 1 or _TOKEN_OR_POSITION.search(rest[0])
    return 0 if inside and not _OUTPUT.search(rest[0]) else len(begins) + 1
