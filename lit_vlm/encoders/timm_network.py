"""Networks of timm, with random or with pretrained weights."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm

from lit_vlm.weights import read_weights


def create_network(
    who: str,
    name: str,
    pretrained: str | Path | None,
    image_size: int | None,
    config: dict[str, Any],
) -> Any:
    """Make a network of timm without its classifier, with random or with pretrained weights.

    Args:
        who: the encoder's class, for messages.
        name: timm's name of the architecture; may carry a pretrained tag.
        pretrained: ``hub``, timm's name with another tag, or a local file or folder; None for
            random weights.
        image_size: side of the input that positions are made, or resampled, for; None for the
            network's own.
        config: further arguments of ``timm.create_model``.

    Raises:
        ValueError: if the name is unknown, or weights or arguments do not fit.
        OSError: if weights are missing and cannot be downloaded.
    """
    _check_is_known(who, name)
    options: dict[str, Any] = {"pretrained": pretrained is not None, "num_classes": 0, **config}
    from_file = is_local(pretrained)
    if from_file:
        options["pretrained_cfg_overlay"] = {"state_dict": read_weights(str(pretrained))}
    elif pretrained not in (None, "hub"):
        name = _same_architecture(who, name, str(pretrained))
    try:
        network = _build(name, image_size, options)
    except TypeError as error:
        raise ValueError(f"{who}: config does not fit {name}: {error}.") from error
    except (AssertionError, KeyError, RuntimeError) as error:
        weights = f"the weights {str(pretrained)!r} and " if pretrained else ""
        raise ValueError(f"{who}: {weights}config={config} must fit {name}, got {error}") from error
    except Exception as error:
        if from_file or pretrained is None:
            raise
        raise OSError(
            f"{who}: the weights {name!r} are not on this machine and could not be "
            f"downloaded ({type(error).__name__}). Give a local file as pretrained, or run once "
            f"with a network."
        ) from error
    network.pretrained_cfg.pop("state_dict", None)
    return network


def is_local(pretrained: str | Path | None) -> bool:
    """Whether weights are a file or a folder here."""
    return pretrained not in (None, "hub") and Path(str(pretrained)).exists()


def tagged_names(name: str) -> list[str]:
    """Return the names that timm has for the pretrained weights of an architecture."""
    return timm.list_pretrained(f"{name.partition('.')[0]}.*")


def _build(name: str, image_size: int | None, options: dict[str, Any]) -> Any:
    if image_size is None:
        return timm.create_model(name, **options)
    try:
        return timm.create_model(name, **{"img_size": image_size, **options})
    except TypeError as error:
        # Networks with position tables fix their size when made; the others take any.
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, **options)


def _check_is_known(who: str, name: str) -> None:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=5)
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise ValueError(
            f"{who}: model_name must be a network that timm knows, got {name!r}.{hint} "
            f"timm.list_models() names all."
        )
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = ", ".join(known.partition(".")[2] for known in tagged_names(name))
        raise ValueError(
            f"{who}: the tag of {architecture} must be one that timm has "
            f"({tags or 'it has none'}), got {tag!r}."
        ) from error


def _same_architecture(who: str, name: str, pretrained: str) -> str:
    architecture = name.partition(".")[0]
    if pretrained.partition(".")[0] != architecture:
        raise ValueError(
            f"{who}: pretrained must be 'hub', a file or folder that exists, or a name that "
            f"timm has for other weights of {architecture}, got {pretrained!r}."
        )
    _check_is_known(who, pretrained)
    return pretrained
