"""LLaVA checkpoints in the Hugging Face form, of which each part reads its own tensors."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from transformers import AutoConfig, LlavaConfig, PreTrainedConfig

from lit_vlm.silence import silent_transformers
from lit_vlm.weights import read_some_weights, read_weights

_TOWER = {r"^(?:model\.)?vision_tower\.(?:vision_model\.)?": ""}
_PROJECTOR = ("model.multi_modal_projector.", "multi_modal_projector.")


class Projector(NamedTuple):
    """What stands between the tower and the language model of a LLaVA.

    Attributes:
        weights: tensors of ``linear_1`` and ``linear_2`` by name.
        activation: what stands between the two layers.
    """

    weights: dict[str, Tensor]
    activation: str


def read_llava(name: str | Path) -> Any:
    """Return the configuration of a LLaVA in a folder or on the hub; None for anything else.

    Raises:
        OSError: if there is no such folder and it cannot be downloaded.
    """
    if Path(name).is_file():
        return None
    found, _ = PreTrainedConfig.get_config_dict(str(name))
    return LlavaConfig.from_dict(found) if _is_llava(found) else None


def tower_config(found: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the vision tower where those of a LLaVA were found, else the same."""
    if not _is_llava(found):
        return found
    llava: Any = LlavaConfig.from_dict(found)
    return dict(llava.vision_config.to_dict())


def tower_names(found: dict[str, Any]) -> dict[str, Any]:
    """Return what ``from_pretrained`` needs to find the tower of a LLaVA, by old names or new."""
    return {"key_mapping": _TOWER} if _is_llava(found) else {}


def warn_of_other_tokens(
    who: str, pretrained: str | Path | None, layers: Sequence[int], has_class_token: bool
) -> None:
    """Warn if an encoder reads other tokens of a LLaVA's tower than its projector was trained on.

    Args:
        who: the encoder's class, for the message.
        pretrained: its weights, of a LLaVA or not.
        layers: layers that it reads, as non-negative numbers.
        has_class_token: whether the tower has one, which the encoder leaves out.
    """
    llava = None if pretrained is None else read_llava(pretrained)
    if llava is None:
        return
    said = llava.vision_feature_layer
    asked = [said] if isinstance(said, int) else list(said)
    depth = llava.vision_config.num_hidden_layers
    if [layer if layer >= 0 else depth + 1 + layer for layer in asked] != list(layers):
        warnings.warn(
            f"{who}: the projector of {pretrained} was trained on layers {asked}, got "
            f"{list(layers)}. Give layers: {asked} if you use that projector.",
            stacklevel=4,
        )
    if (llava.vision_feature_select_strategy == "default") != has_class_token:
        warnings.warn(
            f"{who}: the projector of {pretrained} was trained on other tokens than the patches, "
            f"since its config.json has vision_feature_select_strategy: "
            f"{llava.vision_feature_select_strategy}; expect other answers.",
            stacklevel=4,
        )


def language_config(name: str | Path) -> Any:
    """Return the configuration of a language model, of a LLaVA that of the one inside.

    Raises:
        OSError: if there is no such folder and it cannot be downloaded.
    """
    llava = read_llava(name)
    if llava is None:
        return AutoConfig.from_pretrained(str(name))
    llava.text_config.tie_word_embeddings = llava.tie_word_embeddings
    return llava.text_config


def load_language_model(who: str, auto_class: Any, name: str, **others: Any) -> Any:
    """Load the language model of a LLaVA, and no other tensor.

    Args:
        who: class that the messages name.
        auto_class: one of transformers' ``AutoModelFor...``.
        name: folder or hub name.
        others: further arguments of ``from_pretrained``.

    Raises:
        ValueError: if the language model is of another kind, or tensors are missing.
    """
    config = language_config(name)
    model_class = auto_class._model_mapping.get(type(config), None)
    if model_class is None:
        raise ValueError(
            f"{who}: the language model of {name} must be one for {auto_class.__name__}, got "
            f"{config.model_type}."
        )
    # The base model stands in a causal one under a name of the family's own, mostly "model".
    base = f"{model_class.base_model_prefix}."
    names = {r"^model\.language_model\.": base, r"^language_model\.": ""}
    with silent_transformers():  # it reports the tower as unexpected; what is missing is checked
        model, report = model_class.from_pretrained(
            name, config=config, key_mapping=names, output_loading_info=True, **others
        )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{who}: the language model of {name} must be there as a whole, got none of "
            f"{', '.join(missing[:3])}, of {len(missing)} in all."
        )
    return model


def read_projector(who: str, name: str | Path) -> Projector:
    """Read the projector of a LLaVA, and no other tensor.

    Args:
        who: class that the messages name.
        name: folder or hub name; or the file in which LLaVA's own code saves a projector.

    Raises:
        OSError: if it is not on this machine and cannot be downloaded.
        ValueError: if it is no LLaVA, or its projector is not of two layers.
    """
    if Path(name).is_file():
        return _own_projector(who, Path(name))
    try:
        found, _ = PreTrainedConfig.get_config_dict(str(name))
        weights = read_some_weights(name, _PROJECTOR) if _is_llava(found) else {}
    except OSError as error:
        raise OSError(
            f"{who}: must find {str(name)!r} as a file, a folder or on the hub, got "
            f"{type(error).__name__}. Give a local folder, or run once with a network."
        ) from error
    if {"linear_1.weight", "linear_2.weight"} - weights.keys():
        kind = found.get("model_type") or "none"
        raise ValueError(
            f"{who}: pretrained must be a checkpoint of LLaVA with a projector of two layers, got "
            f"{name}, whose config.json has model_type {kind} and whose projector has "
            f"{', '.join(sorted(weights)) or 'no tensors'}."
        )
    return Projector(weights, LlavaConfig.from_dict(found).projector_hidden_act)


def _own_projector(who: str, file: Path) -> Projector:
    state = read_weights(file)
    places = {"0": "linear_1", "2": "linear_2"}
    names = {key: key.rpartition("mm_projector.")[2].split(".") for key in state}
    if {tuple(n) for n in names.values()} != {(p, k) for p in places for k in ("weight", "bias")}:
        raise ValueError(
            f"{who}: a file of weights must hold a projector of LLaVA's mlp2x_gelu and nothing "
            f"else (mm_projector.0.weight, ...), got {', '.join(sorted(state)[:4])} in {file}."
        )
    return Projector({f"{places[n[0]]}.{n[1]}": state[key] for key, n in names.items()}, "gelu")


def _is_llava(found: dict[str, Any]) -> bool:
    return found.get("model_type") == LlavaConfig.model_type
