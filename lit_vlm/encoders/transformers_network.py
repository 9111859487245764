"""Vision networks of transformers, with random or with pretrained weights."""

from collections.abc import Callable, Iterable, Sequence
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.image_processing_base import ImageProcessingMixin

from lit_vlm.errors import nearest
from lit_vlm.expected_sizes import check_expected, check_given
from lit_vlm.llava_checkpoint import tower_config, tower_names
from lit_vlm.silence import silent_transformers
from lit_vlm.weights import read_weights

NAMES = {
    "embed_dim": "hidden_size",
    "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads",
}
"""timm's words for sizes, and transformers'."""

_NO_SIZES = {
    "transformers_version",
    "_name_or_path",
    "architectures",
    "dtype",
    "torch_dtype",
    "model_type",
    "stage_names",
    "out_features",
    "out_indices",
}
_BUFFER = "position_ids"  # 0, 1, 2, ...: old versions of transformers saved it


def make_network(
    name: str,
    model_class: Any,
    model_types: Sequence[str],
    config: dict[str, Any] | None,
    pretrained: str | Path | None,
    image_size: int | None,
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
    unused: Sequence[str] = (),
) -> Any:
    """Make a network of transformers, in float32 and in training mode.

    Args:
        name: the encoder's class, for messages.
        model_class: the network's class in transformers.
        model_types: what a configuration on disk may say it is.
        config: sizes of random weights, or of weights in a file without a configuration; those
            that have one must be of these sizes.
        pretrained: hub name, local folder or file of weights; None for random ones.
        image_size: side that random positions are made at where ``config`` does not say.
        convert: renames the tensors of a file that others wrote.
        unused: names of parameters that the library does without, and a file may lack.

    Raises:
        ValueError: if the configuration does not fit, or weights are missing, left over or of other
            shapes.
        OSError: if the weights are not on this machine and cannot be downloaded.
    """
    if pretrained is not None and not Path(pretrained).is_file():
        return _from_folder_or_hub(name, model_class, model_types, config, str(pretrained), unused)
    state = None if pretrained is None else convert(read_weights(pretrained))
    sizes = to_sizes(name, config or {}, model_class.config_class)
    patch_size = sizes.get("patch_size", model_class.config_class().patch_size)
    learned_at = image_size if state is None else _side_of_positions(state, patch_size)
    if learned_at is not None:
        sizes.setdefault("image_size", learned_at)
    try:
        built = model_class.config_class(**sizes)
        network = model_class(built)
    except Exception as error:  # transformers checks its configurations with errors of its own
        raise ValueError(f"{name}: config={config} must be a network, but: {error}") from error
    if state is None:
        return network.train()
    return _loaded(name, model_class, None, str(pretrained), unused, config=built, state_dict=state)


def to_sizes(name: str, config: dict[str, Any], config_class: Any) -> dict[str, Any]:
    """Translate sizes in timm's words (``embed_dim``, ``depth``, ``num_heads``, ``mlp_ratio``).

    Raises:
        ValueError: if the configuration class has no such field.
    """
    known = config_class().to_dict().keys()
    sizes = {NAMES.get(key, key): value for key, value in config.items()}
    if "intermediate_size" in known and "intermediate_size" not in sizes:
        if "mlp_ratio" in sizes or "embed_dim" in config:
            width = sizes.get("hidden_size", config_class().hidden_size)
            sizes["intermediate_size"] = int(width * sizes.pop("mlp_ratio", 4))
    for key in sizes:
        if key not in known:
            hint = nearest(key, [*known, *NAMES, "mlp_ratio"], list_all=False)
            raise ValueError(
                f"{name}: config must have fields of {config_class.__name__}, got {key!r}.{hint}"
            )
    return sizes


def sizes_of(network: Any) -> dict[str, Any]:
    """Return the sizes of a network, as ``make_network`` takes them."""
    sizes = network.config.to_diff_dict()
    return {k: v for k, v in sizes.items() if k not in _NO_SIZES}


def sizes_of_folder(
    name: str, model_class: Any, arguments: dict[str, Any], unsaid: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """Return what makes an encoder's network without its weights: ``config``, or a folder's own.

    Args:
        name: of the encoder, for messages.
        model_class: transformers' network.
        arguments: of the encoder, with ``pretrained``.
        unsaid: what the encoder adds to a ``config``.

    Returns:
        ``config`` as the encoder takes it; None where neither it nor a config.json is here.

    Raises:
        ValueError: if ``config`` contradicts the folder's.
    """
    source, config = Path(arguments["pretrained"]), arguments.get("config")
    is_folder = (source / "config.json").is_file()
    if config and is_folder:
        check_sizes(name, model_class, {**(unsaid or {}), **config}, str(source))
    if config or source.is_file():
        return {"config": config}
    if not is_folder:
        return None
    sizes = model_class.config_class.from_pretrained(source).to_diff_dict()
    return {"config": {key: value for key, value in sizes.items() if key not in _NO_SIZES}}


def check_sizes(name: str, model_class: Any, config: dict[str, Any], pretrained: str) -> None:
    """Refuse sizes that are not those of the weights beside them; no weights are read.

    Args:
        name: of the encoder, for messages.
        model_class: transformers' network.
        config: sizes, in timm's words or in transformers'.
        pretrained: folder, or name on the hub.

    Raises:
        ValueError: if a field or a shape differs, or the sizes make no network.
    """
    asked = to_sizes(name, config, model_class.config_class)
    held = model_class.config_class.from_pretrained(pretrained)
    check_given(name, asked, held, pretrained)
    try:
        expected = model_class.config_class(**asked)
    except Exception as error:  # transformers checks its configurations with errors of its own
        raise ValueError(
            f"{name}: config={config} must be a network like that of the weights {pretrained!r}, "
            f"but: {error}. Give more of their fields in config, or leave it out."
        ) from error
    check_expected(name, asked, expected, held, pretrained, model_class)


def published_statistics(pretrained: str | Path | None) -> tuple[Any, Any]:
    """Return mean and std of the channels as published beside weights; None where not said."""
    if pretrained is None or Path(pretrained).is_file():
        return None, None
    try:
        said, _ = ImageProcessingMixin.get_image_processor_dict(str(pretrained))
    except OSError:  # no such file beside the weights
        return None, None
    return said.get("image_mean"), said.get("image_std")


def _from_folder_or_hub(
    name: str,
    model_class: Any,
    model_types: Sequence[str],
    config: dict[str, Any] | None,
    pretrained: str,
    unused: Sequence[str],
) -> Any:
    try:
        found, _ = PreTrainedConfig.get_config_dict(pretrained)
    except OSError as error:
        raise OSError(
            f"{name}: must find {pretrained!r} as a file, a folder or on the hub, got "
            f"{type(error).__name__}. Give a local file or folder, or run once with a network."
        ) from error
    if not found:
        raise OSError(
            f"{name}: a folder must have a config.json beside its weights, got none in "
            f"{pretrained}. Give the file of weights as pretrained and its sizes as config."
        )
    kind = tower_config(found).get("model_type")
    if kind not in model_types:
        raise ValueError(
            f"{name}: pretrained must be of type {' or '.join(model_types)}, got {pretrained}, "
            f"which is of type {kind}. Choose the encoder of that family."
        )
    if config:
        check_sizes(name, model_class, config, pretrained)
    return _loaded(name, model_class, pretrained, pretrained, unused, **tower_names(found))


def _loaded(
    name: str, model_class: Any, place: str | None, source: str, unused: Sequence[str], **how: Any
) -> Any:
    # It reports the text tower of a checkpoint as unexpected; what matters is checked.
    with silent_transformers():
        network, report = model_class.from_pretrained(
            place,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by a message that says which
            **how,
        )
    unfitting = sorted(report["mismatched_keys"])
    if unfitting:
        key, found, expected = unfitting[0]
        raise ValueError(
            f"{name}: the weights {source!r} must fit the sizes in config, but {len(unfitting)} of "
            f"the tensors do not: {key} must be {tuple(expected)}, got {tuple(found)}."
        )
    missing = sorted(set(report["missing_keys"]) - set(unused))
    if missing:
        raise ValueError(
            f"{name}: the weights {source!r} must hold all of {model_class.__name__}, got none "
            f"for {len(missing)} of its tensors: {', '.join(missing[:3])}, ... Are they of another "
            f"kind of network, or of another size (config)?"
        )
    _check_all_is_used(name, network, source, report["unexpected_keys"], unused)
    return network.train()


def _check_all_is_used(
    name: str, network: Any, source: str, unexpected: Iterable[str], unused: Sequence[str]
) -> None:
    # A text tower or a classifier beside the network is no loss; a block or a register inside is.
    inside = {key.partition(".")[0] for key in network.state_dict()}
    dropped = sorted(
        key
        for key in set(unexpected) - set(unused)
        if key.partition(".")[0] in inside and not key.endswith(_BUFFER)
    )
    if dropped:
        raise ValueError(
            f"{name}: the network must have a place for all of the weights {source!r}, got none "
            f"for {len(dropped)} of their tensors: {', '.join(dropped[:3])}, ... Are they of a "
            f"deeper network (config; layers says what is read of it), or of another kind?"
        )


def _side_of_positions(state: dict[str, Tensor], patch_size: int) -> int | None:
    for key, table in state.items():
        if "embeddings.position_embedding" in key and "text" not in key and table.ndim > 1:
            # A class token's row makes the number no square, but never reaches the next one.
            return isqrt(table.shape[-2]) * patch_size
    return None
