"""Weights of Meta's DINOv2 code under transformers' names."""

import re

from torch import Tensor

_TOP = {
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "register_tokens": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
_IN_BLOCK = {
    "attn.proj": "attention.output.dense",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
    "mlp.w12": "mlp.weights_in",
    "mlp.w3": "mlp.weights_out",
}
_BLOCK = re.compile(r"^blocks\.(\d+)\.(.+?)(\.weight|\.bias)?$")


def from_hub(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of ``torch.hub``'s DINOv2; return any other as it is.

    The names are those of the published checkpoints, which every version of transformers reads.

    Source:
        DINOv2 (Oquab et al., 2023), https://github.com/facebookresearch/dinov2.
    """
    if "blocks.0.norm1.weight" not in state:
        return state
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        renamed.update(_renamed(key, value))
    return renamed


def _renamed(key: str, value: Tensor) -> dict[str, Tensor]:
    found = _BLOCK.match(key)
    if found is None:
        return {_TOP.get(key, key): value}
    block, module, leaf = found[1], found[2], found[3] or ""
    where = f"encoder.layer.{block}"
    if module == "attn.qkv":
        names = [f"{where}.attention.attention.{part}{leaf}" for part in ("query", "key", "value")]
        return dict(zip(names, value.chunk(3), strict=True))
    return {f"{where}.{_IN_BLOCK.get(module, module)}{leaf}": value}
