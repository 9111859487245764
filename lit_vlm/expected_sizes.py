"""Sizes that pretrained weights must have, where a config says so beside them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from lit_vlm.silence import silent_transformers

NO_SIZES = {
    "transformers_version",
    "_name_or_path",
    "architectures",
    "dtype",
    "torch_dtype",
    "use_cache",
}
"""Fields of a configuration of transformers that say nothing of the network."""

_UNSAID = ("model_type", "tie_word_embeddings")  # they change the network where nothing is said


def check_given(who: str, given: Mapping[str, Any], found: Any, source: str) -> None:
    """Refuse fields that the configuration of weights has otherwise.

    This comes before a configuration is made of them, which transformers may refuse: with what is
    not given at its defaults, sizes may not fit each other.

    Args:
        who: class that the messages name.
        given: fields, in transformers' words.
        found: transformers' configuration of the weights.
        source: name of the weights, for messages.

    Raises:
        ValueError: if a field differs.
    """
    for name, value in given.items():
        held = getattr(found, name, None)
        # What a configuration makes something else of is compared by check_expected.
        if isinstance(held, int | float | str) and name not in NO_SIZES:
            _check_field(who, name, value, held, source)


def check_expected(
    who: str,
    given: Iterable[str],
    expected: Any,
    found: Any,
    source: str,
    make: Callable[[Any], nn.Module],
) -> None:
    """Refuse weights whose configuration is not the one that was asked for.

    What is not given must be such that the tensors have the same shapes. No weights are read, and
    no memory is used: a plan of a run that is made from the one configuration then holds for the
    other.

    Args:
        who: class that the messages name.
        given: names of the fields that were given.
        expected: transformers' configuration that was made of them.
        found: that of the weights.
        source: name of the weights, for messages.
        make: makes a network of a configuration.

    Raises:
        ValueError: if a field or a shape differs.
    """
    fields = [*_UNSAID, *(name for name in given if name not in NO_SIZES)]
    if any(name.startswith("rope_") for name in fields):
        fields.append("rope_parameters")  # what transformers makes of rope_theta and rope_scaling
    for name in dict.fromkeys(fields):
        wanted, held = _plain(getattr(expected, name, None)), _plain(getattr(found, name, None))
        _check_field(who, name, wanted, held, source)
    _check_shapes(who, _shapes(make, expected), _shapes(make, found), source)


def _check_field(who: str, name: str, wanted: Any, held: Any, source: str) -> None:
    if wanted != held:
        raise ValueError(
            f"{who}: config must say what the weights {source!r} are, got {name}={wanted!r}, and "
            f"they have {held!r}. Give theirs, or leave config out."
        )


def _check_shapes(
    who: str, wanted: dict[str, tuple[int, ...]], held: dict[str, tuple[int, ...]], source: str
) -> None:
    for name in [*wanted, *held]:
        if wanted.get(name) != held.get(name):
            raise ValueError(
                f"{who}: config must make a network like that of the weights {source!r}, got "
                f"{_words(wanted.get(name))} for {name}, and theirs has {_words(held.get(name))}. "
                f"Give more of their fields in config, or leave it out."
            )


def _shapes(make: Callable[[Any], nn.Module], config: Any) -> dict[str, tuple[int, ...]]:
    with silent_transformers(), torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in make(config).state_dict().items()}


def _words(shape: tuple[int, ...] | None) -> str:
    return "no tensor" if shape is None else f"the shape {shape}"


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
