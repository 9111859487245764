"""A model of a config on the meta device: shapes without memory, and without weights."""

import warnings
from typing import Any

import torch
from lightning import LightningModule

from lit_vlm.class_names import import_class
from lit_vlm.encoders import VisionEncoder
from lit_vlm.encoders.held_encoder import held_sizes
from lit_vlm.errors import ConfigError, root_cause
from lit_vlm.parser import FriendlyParser
from lit_vlm.silence import silent_transformers


def meta_model(config: dict[str, Any]) -> LightningModule:
    """Build a model whose tensors have shapes and no content; nothing is downloaded.

    Of a part with ``pretrained``, ``config`` says the sizes, or else the ``config.json`` of a local
    folder. Tokenizers are not read: where one is named, special tokens that a prompt format may
    have to add to it are left out.

    Args:
        config: ``class_path`` and ``init_args`` of the model, as ``read_fit_config`` gives them.

    Raises:
        ConfigError: if the sizes of a part are nowhere to be read, or the config is wrong.
        ValueError: if the parts do not fit.
    """
    parser = FriendlyParser()
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    named = parser.parse_object({"model": config}).as_dict()["model"]  # classes by their paths
    parsed = parser.parse_object({"model": without_weights(named, "model")})
    with warnings.catch_warnings(), silent_transformers(), torch.device("meta"):
        warnings.simplefilter("ignore")  # what they say of weights and statistics
        try:
            model = parser.instantiate(parsed).model
        except ValueError as error:  # around that of a part
            raise root_cause(error) from None
    assert isinstance(model, LightningModule)
    return model


def without_weights(config: Any, place: str) -> Any:
    """Return a config in which every part that names weights names its sizes instead.

    Args:
        config: of a part, or a value in it.
        place: where it stands, for messages.
    """
    if isinstance(config, list | tuple):
        return [without_weights(item, f"{place}.{i}") for i, item in enumerate(config)]
    if not isinstance(config, dict):
        return config
    if "class_path" not in config:
        return {key: without_weights(item, f"{place}.{key}") for key, item in config.items()}
    arguments = {
        key: without_weights(item, f"{place}.{key}")
        for key, item in (config.get("init_args") or {}).items()
    }
    if arguments.get("quantization") is not None:
        raise ConfigError(
            f"{place}: weights that are quantised cannot be planned, got "
            f"quantization={arguments['quantization']!r}. Leave it out for a plan of whole ones."
        )
    if arguments.get("pretrained") is not None:
        arguments |= _sizes_instead(config["class_path"], arguments, place)
    if arguments.get("tokenizer") is not None:
        arguments |= _no_tokenizer(arguments)
    return {**config, "init_args": arguments}


def _sizes_instead(class_path: str, arguments: dict[str, Any], place: str) -> dict[str, Any]:
    kind = import_class(class_path)
    sizes: dict[str, Any] | None = None
    if issubclass(kind, VisionEncoder):
        sizes = held_sizes(kind, arguments)
    if sizes is None:
        # Classes without this method say their sizes by other arguments, as TimmEncoder does.
        sizes = kind.sizes_alone(arguments) if hasattr(kind, "sizes_alone") else {}
    if sizes is None:
        raise ConfigError(
            f"{place}: the sizes of {kind.__name__} must be known without its weights "
            f"({arguments['pretrained']}), got no config. Give {place}.config beside pretrained, "
            f"or the weights in a local folder with a config.json."
        )
    return {"pretrained": None, **_no_tokenizer(arguments), **sizes}


def _no_tokenizer(arguments: dict[str, Any]) -> dict[str, Any]:
    # Which of a prompt's tokens it lacks is not known: none is added but those asked for.
    words = arguments.get("new_tokens") or []
    return {k: v for k, v in (("tokenizer", None), ("new_tokens", words)) if k in arguments}
