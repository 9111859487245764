"""How fast each parameter of a model trains, by the parts that are named."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from lit_vlm.layer_ids import LayerId, layer_ids
from lit_vlm.optim import decays, exempt_from_decay
from lit_vlm.part_names import find_parts, is_within


@dataclass(frozen=True, kw_only=True)
class PartLR:
    """How fast a part trains, beside the rest.

    Attributes:
        multiplier: of the learning rate, above 0.
        layer_decay: also multiply by this, above 0 and at most 1, once for each layer between a
            parameter and the head: block ``i`` of ``L`` by ``layer_decay ** (L - i)``, patch
            embedding, positions and class token by ``layer_decay ** (L + 1)``, final norm and head
            by 1. ``L`` is the number of blocks that the network has here.
        weight_decay: of what decays in the part; None for the module's own.

    Raises:
        ValueError: if a value is out of range.
    """

    multiplier: float = 1.0
    layer_decay: float | None = None
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        if self.multiplier <= 0:
            raise ValueError(
                f"PartLR: multiplier must be positive, got {self.multiplier}. Freeze what must not "
                f"train."
            )
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"PartLR: layer_decay must be above 0 and at most 1, got {self.layer_decay}."
            )
        if self.weight_decay is not None and self.weight_decay < 0:
            raise ValueError(f"PartLR: weight_decay must not be negative, got {self.weight_decay}.")


class ParameterRate(NamedTuple):
    """How a parameter trains.

    Attributes:
        part: child of the model that it is in.
        named: the part that was named; empty if none was.
        layer: place in the depth, if rates decay by layer.
        multiplier: of the learning rate.
        decays: whether weight decay is meant for it.
        weight_decay: what the part says of it.
    """

    part: str
    named: str
    layer: int | None
    multiplier: float
    decays: bool
    weight_decay: float | None


def parameter_rates(model: nn.Module, parts: Mapping[str, PartLR]) -> dict[str, ParameterRate]:
    """Return how each parameter trains, by its name; a tensor that is shared has its first.

    Args:
        model: any module.
        parts: by names or patterns. Where several mean a parameter, by any of its names, the
            innermost counts, and of several that mean the same part the last.

    Raises:
        ValueError: if a pattern means nothing, or a part with ``layer_decay`` has no blocks.

    Example:
        >>> model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
        >>> rates = parameter_rates(model, {"encoder": PartLR(multiplier=0.1)})
        >>> rates["encoder.weight"].multiplier, rates["head.weight"].multiplier
        (0.1, 1.0)
    """
    named = {
        name: part
        for pattern, part in parts.items()
        for name in find_parts(model, [pattern], "PretrainedLR: parts")
    }
    owners = _owners(model, list(named))
    layers = {
        name: _layers_of(model, name)
        for name, part in named.items()
        if part.layer_decay is not None
    }
    exempt = exempt_from_decay(model)
    rates = {}
    for name, parameter in model.named_parameters():
        owner = owners[id(parameter)]
        part = named.get(owner, PartLR())
        layer = layers[owner][id(parameter)] if owner in layers else None
        rates[name] = ParameterRate(
            part=name.partition(".")[0],
            named=owner,
            layer=None if layer is None else layer.id,
            multiplier=part.multiplier * (layer.scale(part.layer_decay or 1.0) if layer else 1.0),
            decays=decays(name, parameter, exempt),
            weight_decay=part.weight_decay,
        )
    return rates


def _owners(model: nn.Module, named: list[str]) -> dict[int, str]:
    owners: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        inside = [part for part in named if is_within(name, [part])]
        owners[id(parameter)] = max([owners.get(id(parameter), ""), *inside], key=len)
    return owners


def _layers_of(model: nn.Module, name: str) -> dict[int, LayerId]:
    found = dict(model.named_modules()).get(name)
    ids = {} if found is None else layer_ids(found)
    if found is None or not ids:
        kind = "a parameter" if found is None else f"a {type(found).__name__}"
        raise ValueError(
            f"PretrainedLR: a part with layer_decay must have blocks in it, modules named like "
            f"blocks.0, layers.0, layer1.0 or h.0, got {name!r}, {kind} without. Give it a "
            f"multiplier alone, or name the network inside of it that has them."
        )
    return {id(parameter): ids[inner] for inner, parameter in found.named_parameters()}
