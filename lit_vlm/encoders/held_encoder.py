"""The encoder inside a checkpoint of any model of this library."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from lit_vlm.checkpoints import model_config
from lit_vlm.encoders.base import VisionEncoder
from lit_vlm.encoders.transformers_network import NAMES
from lit_vlm.held_parts import held_parts, read_held


class Given(NamedTuple):
    """Arguments of an encoder, completed by those of the encoder in a checkpoint, if one is given.

    Attributes:
        pretrained: weights to load when the network is made; None if a checkpoint holds them.
        config: sizes.
        image_size: side of the square input, in pixels.
        mean: mean of each channel.
        std: standard deviation of each channel.
        weights: the checkpoint's tensors by name, if it is one.
        source: the checkpoint, for messages.
    """

    pretrained: str | Path | None
    config: dict[str, Any]
    image_size: int | None
    mean: Any
    std: Any
    weights: Mapping[str, Tensor] | None = None
    source: str = ""

    def load_into(self, encoder: VisionEncoder) -> None:
        """Give an encoder the checkpoint's weights for all of its network, if one was given.

        Raises:
            ValueError: if the checkpoint's network is not as deep, or of other sizes.
        """
        if self.weights is None:
            return
        who = type(encoder).__name__
        network: Any = encoder.network
        assert isinstance(network, nn.Module)
        own = network.state_dict()
        missing = [name for name in own if f"network.{name}" not in self.weights]
        if missing:
            raise ValueError(
                f"{who}: the encoder in {self.source} must hold all that is read of it, got none "
                f"of {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}. It was cut "
                f"after the deepest layer that it read: choose layers that it has, and pool or "
                f"norm as it did."
            )
        found = {name: self.weights[f"network.{name}"] for name in own}
        for name, value in own.items():
            if value.shape != found[name].shape:
                raise ValueError(
                    f"{who}: the encoder in {self.source} must have the shapes of this one, got "
                    f"{name} of {tuple(found[name].shape)} in the place of {tuple(value.shape)}. "
                    f"Give it the arguments of the checkpoint's."
                )
        network.load_state_dict(found)


def complete(
    encoder: VisionEncoder,
    pretrained: str | Path | None,
    config: dict[str, Any] | None,
    image_size: int | None,
    mean: Any,
    std: Any,
    **named: Any,
) -> Given:
    """Complete the arguments of an encoder whose ``pretrained`` may be a checkpoint.

    Args:
        encoder: what is being made.
        pretrained: its argument.
        config: its argument; the checkpoint's where there is none.
        image_size: likewise.
        mean: its argument; the checkpoint's always, if there is one.
        std: likewise.
        named: further arguments, which must be those of the checkpoint's encoder.

    Raises:
        ValueError: if the checkpoint's encoder is of another kind.
    """
    content = read_held(pretrained)
    if content is None:
        return Given(pretrained, config or {}, image_size, mean, std)
    arguments, weights = find_encoder(content, str(pretrained), type(encoder))
    # Sizes in a file that serves runs with and without a checkpoint are no fault.
    for name, value in {**(config or {}), **named}.items():
        there = _in_record(name, arguments, otherwise=value)
        if there != value:
            raise ValueError(
                f"{type(encoder).__name__}: {name} must be {there!r}, as in {pretrained}, got "
                f"{value!r}. Leave it out, or give the checkpoint's."
            )
    return Given(
        pretrained=None,
        config=arguments.get("config") or {},
        image_size=image_size or arguments["image_size"],
        mean=_of_checkpoint("mean", mean, arguments, encoder, pretrained),
        std=_of_checkpoint("std", std, arguments, encoder, pretrained),
        weights=weights,
        source=str(pretrained),
    )


def held_sizes(kind: type[VisionEncoder], arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Return arguments that make the network of a checkpoint's encoder without its weights.

    Args:
        kind: the encoder's class.
        arguments: its arguments, with ``pretrained``.

    Returns:
        ``config`` and ``image_size``; None if ``pretrained`` is no checkpoint of this library here.
    """
    source = str(arguments["pretrained"])
    content = read_held(source) if Path(source).exists() else None
    if content is None:
        return None
    held, _ = find_encoder(content, source, kind)
    image_size = arguments.get("image_size") or held["image_size"]
    return {"config": held.get("config"), "image_size": image_size}


def find_encoder(
    content: dict[str, Any], path: str, wanted: type[VisionEncoder]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the arguments and the weights of the encoder that a checkpoint holds.

    Args:
        content: checkpoint of any model of this library: a pretraining, a vision-language model, an
            encoder; of an ensemble's encoders, the one that is of the class wanted.
        path: its file, for messages.
        wanted: the encoder's class.

    Raises:
        ValueError: if it holds none or several of that class.
    """
    held = list(held_parts(model_config(content), ""))
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in wanted.__mro__}
    fitting = [(prefix, inner) for prefix, inner in held if inner["class_path"] in kinds]
    if len(fitting) != 1 or "state_dict" not in content:
        names = [inner["class_path"].rpartition(".")[2] for _, inner in held]
        encoders = ", ".join(n for n in names if n.endswith("Encoder") and n != "TextEncoder")
        there = f"{len(fitting)} of them" if fitting else encoders or "no encoder"
        raise ValueError(
            f"{wanted.__name__}: pretrained must be weights, or a checkpoint of this library that "
            f"holds one {wanted.__name__}, got {path}, which holds {there}."
        )
    [(prefix, found)] = fitting
    state = content["state_dict"]
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return found["init_args"], weights


def _of_checkpoint(
    name: str, given: Any, arguments: dict[str, Any], encoder: VisionEncoder, source: Any
) -> Any:
    # An experiment's own are those of the encoder that it had: these weights know others.
    held = arguments[name]
    if given is not None and not np.allclose(given, held, atol=1e-4):
        shown = [round(float(value), 3) for value in held]
        warnings.warn(
            f"{type(encoder).__name__}: {name} {shown} of {source} is used, not {list(given)}. "
            f"Leave it out: --model.encoder.{name} null.",
            stacklevel=4,
        )
    return held


def _in_record(name: str, arguments: dict[str, Any], otherwise: Any) -> Any:
    sizes = arguments.get("config") or {}
    return arguments.get(name, sizes.get(name, sizes.get(NAMES.get(name, name), otherwise)))
