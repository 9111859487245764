"""Weights of OpenCLIP's vision transformers under transformers' names."""

import re

from torch import Tensor

_PREFIX = re.compile(r"^(module\.)?visual\.")
_TOP = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"^transformer\.resblocks\.(\d+)\.(.+)\.(\w+)$")
_QUERY_KEY_VALUE = re.compile(r"^transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)$")


def from_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the vision tower of an OpenCLIP state dict; return any other as it is.

    Text tower, temperature and projection into the shared space are left out.

    Raises:
        ValueError: if its blocks have more to them (OpenCLIP's options ``qk_norm``, ...).

    Source:
        open_clip (Ilharco et al., 2021), https://github.com/mlfoundations/open_clip,
        ``VisionTransformer``; convert_clip_original_pytorch_to_hf.py of transformers.
    """
    tower = {_PREFIX.sub("", key): value for key, value in state.items() if _PREFIX.match(key)}
    tower = tower or state
    if "conv1.weight" not in tower:
        return state
    renamed: dict[str, Tensor] = {}
    for key, value in tower.items():
        renamed.update(_renamed(key, value))
    return renamed


def _renamed(key: str, value: Tensor) -> dict[str, Tensor]:
    if found := _QUERY_KEY_VALUE.match(key):
        block, leaf = found.groups()
        names = [f"encoder.layers.{block}.self_attn.{part}_proj.{leaf}" for part in "qkv"]
        return dict(zip(names, value.chunk(3), strict=True))
    if found := _BLOCK.match(key):
        block, module, leaf = found.groups()
        if module not in _IN_BLOCK:
            raise ValueError(
                f"CLIPEncoder: the weights must be those of a plain vision transformer, got "
                f"{key!r}, which it has no place for."
            )
        return {f"encoder.layers.{block}.{_IN_BLOCK[module]}.{leaf}": value}
    if key in _TOP:
        return {_TOP[key]: value}
    module, _, leaf = key.rpartition(".")
    return {f"{_TOP[module]}.{leaf}": value} if module in _TOP else {}
