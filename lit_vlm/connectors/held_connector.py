"""Weights of a connector: out of a LLaVA, or out of a checkpoint of any model of this library."""

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from torch import Tensor

from lit_vlm.checkpoints import model_config
from lit_vlm.connectors.base import Connector
from lit_vlm.held_parts import held_parts, read_held
from lit_vlm.llava_checkpoint import Projector, read_projector


def load_connector(
    connector: Connector,
    pretrained: str | Path | None,
    of_projector: Callable[[Projector], dict[str, Tensor]] | None = None,
    droppable: str = "",
) -> None:
    """Give a connector the weights that it was asked to start from.

    Args:
        connector: what is being made, with random weights.
        pretrained: a checkpoint (``.ckpt``) of this library, or a LLaVA in the Hugging Face form;
            None leaves the connector as it is.
        of_projector: makes the connector's tensors of a LLaVA's projector; None if none fits.
        droppable: a module, and the argument that makes it, which the connector may do without
            though the checkpoint has it.

    Raises:
        ValueError: if what is there is of another kind or of other shapes.
        OSError: if there is nothing.
    """
    if pretrained is None:
        return
    who = type(connector).__name__
    content = read_held(pretrained)
    if content is not None:
        found = _held(connector, content, str(pretrained), droppable)
    elif of_projector is None:
        raise ValueError(
            f"{who}: pretrained must be a checkpoint (.ckpt) of this library, got {pretrained}."
        )
    else:
        found = of_projector(read_projector(who, pretrained))
    own = connector.state_dict()
    for name in sorted({*own, *found}):
        here, there = (None if name not in w else tuple(w[name].shape) for w in (own, found))
        if here != there:
            raise ValueError(
                f"{who}: the connector in {pretrained} must have the tensors of this one, got "
                f"{_words(there)} for {name} in the place of {_words(here)}. Give it the arguments "
                f"of that one, behind the same encoder and before the same language model."
            )
    connector.load_state_dict(found)


def without_pretrained(record: dict[str, Any]) -> dict[str, Any]:
    """Return a connector's record to rebuild it by: its weights come from the checkpoint."""
    return {**record, "init_args": {**record["init_args"], "pretrained": None}}


def _held(
    connector: Connector, content: dict[str, Any], path: str, droppable: str
) -> dict[str, Tensor]:
    held = list(held_parts(model_config(content)))
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(connector).__mro__}
    fitting = [(prefix, inner) for prefix, inner in held if inner["class_path"] in kinds]
    if len(fitting) != 1 or "state_dict" not in content:
        names = (inner["class_path"].rpartition(".")[2] for _, inner in held)
        others = ", ".join(name for name in names if "Connector" in name or "Resampler" in name)
        there = f"{len(fitting)} of them" if fitting else others or "no connector"
        who = type(connector).__name__
        raise ValueError(
            f"{who}: pretrained must be a checkpoint that holds one {who}, got {path}, which holds "
            f"{there}."
        )
    [(prefix, record)] = fitting
    free = {"in_dim", "out_dim", "pretrained"}  # shapes tell
    state = content["state_dict"]
    found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if droppable and not connector.init_config["init_args"][droppable]:
        free.add(droppable)
        found = {k: v for k, v in found.items() if not k.startswith(f"{droppable}.")}
    _check_arguments(connector, record["init_args"], path, but=free)
    return found


def _check_arguments(
    connector: Connector, held: dict[str, Any], path: str, but: Container[str]
) -> None:
    # Tensors of the same shapes may mean something else: an activation, a number of heads.
    for name, value in connector.init_config["init_args"].items():
        if name not in but and held.get(name, value) != value:
            raise ValueError(
                f"{type(connector).__name__}: {name} must be {held[name]!r}, as in {path}, got "
                f"{value!r}. Give the arguments of the checkpoint's connector."
            )


def _words(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else f"the shape {shape}"
