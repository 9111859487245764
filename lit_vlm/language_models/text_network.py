"""Networks of transformers that read a text as a whole."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    CLIPTextConfig,
    CLIPTextModel,
    Siglip2TextConfig,
    Siglip2TextModel,
    SiglipTextConfig,
    SiglipTextModel,
)

from lit_vlm.expected_sizes import check_expected
from lit_vlm.language_models.pretrained import build_config, from_hub
from lit_vlm.language_models.text_pooling import Pooling
from lit_vlm.silence import silent_transformers

_WHO = "TextEncoder"
_TOWERS: dict[str, Any] = {
    "clip": CLIPTextModel,
    "clip_text_model": CLIPTextModel,
    "siglip": SiglipTextModel,
    "siglip_text_model": SiglipTextModel,
    "siglip2": Siglip2TextModel,
    "siglip2_text_model": Siglip2TextModel,
}
_NO_SIZES = {"transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype"}
_NEW = {"model_type": "clip_text_model", "pad_token_id": 0, "eos_token_id": 1}
_UNBOUNDED = 512  # tokens, where positions are relative


class _Encoders:
    """The configurations that there is a network for."""

    def __contains__(self, kind: object) -> bool:
        own = (CLIPTextConfig, SiglipTextConfig, Siglip2TextConfig)
        return kind in own or (isinstance(kind, type) and kind in MODEL_MAPPING)


def make_text_network(
    config: dict[str, Any] | None, pretrained: str | Path | None, pooling: Pooling | None
) -> Any:
    """Make a text network from sizes, or with pretrained weights, in float32 and training mode.

    Args:
        config: sizes, which must be those of the weights if these are given; unless they say
            otherwise, ``model_type`` is ``clip_text_model``, and special tokens of random weights
            are numbered as in tokenizers that are trained here.
        pretrained: hub name or folder, of a text network or of CLIP or SigLIP as a whole.
        pooling: how its tokens are pooled; None for the family's own way.

    Raises:
        ValueError: if it is no network that reads a text as a whole, or cannot be pooled so, or
            weights are missing or of other sizes.
        OSError: if something pretrained is not on this machine and cannot be downloaded.
    """
    if pretrained is None:
        assert config is not None
        network = _network(_built(config))
    else:
        network = _loaded(str(pretrained), config)
    if pooling == "first" and is_causal(network):
        raise ValueError(
            f"{_WHO}: pooling must not be 'first' for a network that reads from left to right, "
            f"whose first token knows nothing of the text, got {network.config.model_type}. Leave "
            f"it out."
        )
    # A layer behind what is pooled otherwise would stand unread, and DDP waits for all that trains.
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    if hasattr(network, "head") and (pooling or own_pooling(network)) != own_pooling(network):
        network.head = nn.Identity()
    return network.train()


def own_pooling(network: Any) -> Pooling:
    """Return how a network's family makes one vector of a text."""
    if is_causal(network):
        return "eos"
    return "last" if network.config.model_type in _TOWERS else "first"


def is_causal(network: Any) -> bool:
    """Whether a token sees those before it alone."""
    return isinstance(network, CLIPTextModel)


def vector_width(network: Any) -> int:
    """Return the width of a network's vectors."""
    head = getattr(network, "head", None)
    return int(head.out_features if isinstance(head, nn.Linear) else network.config.hidden_size)


def check_length(network: Any, tokenizer: Any, max_length: int | None) -> int:
    """Return how many tokens a text may have; raise ``ValueError`` if it is out of range.

    Args:
        network: has so many positions.
        tokenizer: pretrained ones may say that their network reads fewer; None for no tokenizer.
        max_length: what was asked for; None for the most.
    """
    # RoBERTa and its like begin to count positions behind the number of their padding.
    behind = getattr(getattr(network, "embeddings", None), "padding_idx", None)
    places = getattr(network.config, "max_position_embeddings", None) or _UNBOUNDED
    limit = places if behind is None else places - behind - 1
    if tokenizer is not None:
        limit = min(limit, tokenizer.model_max_length)
    if max_length is not None and not 2 <= max_length <= limit:
        raise ValueError(
            f"{_WHO}: max_length must be at least 2 and at most {limit}, the positions that the "
            f"network has, got {max_length}."
        )
    return max_length or limit


def sizes_of_text(network: Any) -> dict[str, Any]:
    """Return the sizes of a network, as ``make_text_network`` takes them."""
    with silent_transformers():  # it warns of SigLIP's own defaults when it compares with them
        sizes = network.config.to_diff_dict()
    sizes["model_type"] = network.config.model_type
    # What is the default for the type may not be ours.
    sizes["vocab_size"] = network.config.vocab_size
    sizes["pad_token_id"] = network.config.pad_token_id
    return {key: value for key, value in sizes.items() if key not in _NO_SIZES}


def text_sizes_alone(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Return what makes a network without its weights: its configuration's sizes."""
    folder, config = Path(arguments["pretrained"]), arguments.get("config")
    if not (folder / "config.json").is_file():
        return {"config": config} if config else None
    found = AutoConfig.from_pretrained(folder)
    tower = _TOWERS.get(found.model_type)
    with silent_transformers():
        found = tower.config_class.from_pretrained(folder) if tower else found
    if config:
        check_expected(_WHO, config, _built(config), found, str(folder), _network)
        return {"config": config}
    sizes = found.to_diff_dict()
    return {"config": {key: value for key, value in sizes.items() if key not in _NO_SIZES}}


def _built(config: dict[str, Any]) -> Any:
    sizes: dict[str, Any] = {**_NEW, **config}
    if sizes["model_type"] in _TOWERS:
        sizes.setdefault("bos_token_id", None)
    kind = "an encoder of text"
    with silent_transformers():
        built = build_config(
            _WHO, sizes, _Encoders(), kind, "clip_text_model, siglip_text_model, bert"
        )
    _check_kind(built, str(sizes["model_type"]))
    return built


def _network(config: Any) -> Any:
    made: Any = _TOWERS.get(config.model_type)
    return made(config) if made else AutoModel.from_config(config)


def _loaded(name: str, asked: dict[str, Any] | None) -> Any:
    config: Any = from_hub(_WHO, name, AutoConfig.from_pretrained)
    tower = _TOWERS.get(config.model_type)
    if tower is None:
        _check_kind(config, name)
    if asked is not None:
        found = from_hub(_WHO, name, tower.config_class.from_pretrained) if tower else config
        check_expected(_WHO, asked, _built(asked), found, name, _network)
    load: Any = tower or AutoModel
    # transformers reports an image tower beside it as unexpected; what is missing is checked.
    with silent_transformers():
        network, report = from_hub(
            _WHO,
            name,
            lambda name: load.from_pretrained(name, dtype=torch.float32, output_loading_info=True),
        )
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ValueError(
            f"{_WHO}: the weights {name!r} must hold all of {type(network).__name__}, got none for "
            f"{len(missing)} of its tensors: {', '.join(missing[:3])}, ... Are they of a text "
            f"network?"
        )
    return network


def _check_kind(config: Any, name: str) -> None:
    if config.is_encoder_decoder or config.get_text_config() is not config:
        raise ValueError(
            f"{_WHO}: the network must be an encoder of text alone (CLIP's, SigLIP's, BERT, ...), "
            f"got {name}, of type {config.model_type}, which has other parts. Choose one that is."
        )
