"""CLIP's vision transformer."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import Tensor, nn
from transformers import CLIPVisionModel

from lit_vlm.encoders.held_encoder import complete
from lit_vlm.encoders.open_clip_weights import from_open_clip
from lit_vlm.encoders.transformers_network import (
    make_network,
    published_statistics,
    sizes_of,
    sizes_of_folder,
)
from lit_vlm.encoders.vit import ViTEncoder
from lit_vlm.llava_checkpoint import warn_of_other_tokens
from lit_vlm.positions import interpolate_positions


class CLIPEncoder(ViTEncoder):
    """Read CLIP's vision transformer: OpenAI's ViT-B and ViT-L, OpenCLIP's up to ViT-bigG.

    The usual eye of vision-language models: LLaVA reads layer -2 of ViT-L/14 at 336 px. Qwen-VL's
    is ViT-bigG with ``layers=[-1]``, ``image_size=448`` and ``cls_token=False``.

    Args:
        config: sizes for random weights, or for weights in a file: fields of transformers'
            ``CLIPVisionConfig``, or timm's words for them (``embed_dim``, ``depth``,
            ``num_heads``, ``mlp_ratio``). Its ``image_size`` is the side that positions are
            learned at; by default that of the input. Beside weights of a folder or of the hub it
            says what they must be, so that a run can be planned without them.
        pretrained: weights: a hub name (``openai/clip-vit-large-patch14-336``), a local folder,
            a file of transformers' or OpenCLIP's weights, or a checkpoint (``.ckpt``) of a run of
            this library, whose encoder is taken, sizes included; None for random ones. Of a LLaVA
            (``llava-hf/llava-1.5-7b-hf``) the vision tower alone is read.
            OpenCLIP's files do not say which activation the network has: ``config`` must, by
            ``hidden_act``.
        layers: layers to read, in this order; 0 is the embeddings after CLIP's first norm.
        image_size: side of the square input, in pixels, a multiple of the patch size; positions
            are interpolated (bicubic) if they were learned at another; None for the network's own.
        mean: mean of each channel; None for those published beside the weights, else OpenAI's.
        std: standard deviation of each channel; None likewise.
        cls_token: keep the class token among the tokens that the blocks see; Qwen-VL does not.
        norm: put every level through the final norm, which CLIP itself gives the pooled token only.
        pool: also return the class token of the last block after the final norm; the whole network
            is then kept and run.
        gradient_checkpointing: recompute blocks in the backward pass, to save memory.

    Raises:
        ValueError: if a layer does not exist, patches do not tile the input, or weights and sizes
            do not fit.
        OSError: if weights are not on this machine and cannot be downloaded.

    Source:
        CLIP (Radford et al., 2021), https://arxiv.org/abs/2103.00020; the network is
        transformers'. Qwen-VL (Bai et al., 2023), https://arxiv.org/abs/2308.12966.

    Example:
        >>> sizes = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 8}
        >>> encoder = CLIPEncoder(sizes, layers=[-2], image_size=32)
        >>> encoder.grid, encoder.dims
        ((4, 4), (32,))
    """

    def __init__(
        self,
        config: dict[str, Any] | None = None,
        pretrained: str | Path | None = None,
        layers: Sequence[int] = (-1,),
        image_size: int | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        cls_token: bool = True,
        norm: bool = False,
        pool: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        if pool and not cls_token:
            raise ValueError(
                "CLIPEncoder: cls_token must be kept for pool, got cls_token=False and pool=True. "
                "CLIP's pooled output is the class token."
            )
        given = complete(self, pretrained, config, image_size, mean, std, cls_token=cls_token)
        network = make_network(
            "CLIPEncoder",
            CLIPVisionModel,
            ("clip", "clip_vision_model"),
            given.config,
            given.pretrained,
            image_size=given.image_size,
            convert=partial(_from_file, given.config),
        )
        if not cls_token:
            _drop_class_token(network)
        said_mean, said_std = published_statistics(given.pretrained)
        super().__init__(
            network,
            sizes=sizes_of(network),
            blocks="encoder.layers",
            final_norm="post_layernorm",
            num_prefix=1 if cls_token else 0,
            layers=layers,
            image_size=given.image_size or network.config.image_size,
            patch_size=network.config.patch_size,
            mean=given.mean or said_mean or OPENAI_CLIP_MEAN,
            std=given.std or said_std or OPENAI_CLIP_STD,
            norm=norm,
            pool=pool,
            gradient_checkpointing=gradient_checkpointing,
        )
        given.load_into(self)
        warn_of_other_tokens("CLIPEncoder", given.pretrained, self._layers, has_class_token=True)

    @classmethod
    def sizes_alone(cls, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Return arguments that make the network without its weights; see ``meta_model``."""
        return sizes_of_folder(cls.__name__, CLIPVisionModel, arguments)

    def embed(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B T D"]:
        """Embed patches, prepend the class token, add positions and normalise."""
        embeddings = self.network.embeddings
        tokens = embeddings.patch_embedding(pixels).flatten(2).mT
        table = embeddings.position_embedding.weight
        prefix = self._num_prefix
        positions = interpolate_positions(table[prefix:], self.grid_of(pixels))
        if prefix:
            first = embeddings.class_embedding.expand(len(tokens), 1, -1)
            tokens = torch.cat([first, tokens], dim=1)
            positions = torch.cat([table[:1], positions])
        return self.network.pre_layrnorm(tokens + positions)

    def run_block(self, block: nn.Module, tokens: Float[Tensor, "B T D"]) -> Tensor:
        """Run one block without a mask."""
        return block(tokens, None)

    def pool_tokens(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B D"]:
        """Return the class token."""
        return tokens[:, 0]


def _from_file(config: dict[str, Any], state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = from_open_clip(state)
    if renamed is not state and "hidden_act" not in config:
        raise ValueError(
            "CLIPEncoder: config must say hidden_act for weights of OpenCLIP, got none. It is "
            "quick_gelu for networks of OpenAI's recipe (named -quickgelu), gelu for others."
        )
    return renamed


def _drop_class_token(network: Any) -> None:
    embeddings = network.embeddings
    embeddings.class_embedding = None
    table = embeddings.position_embedding.weight[1:].detach()
    embeddings.position_embedding = nn.Embedding(len(table), table.shape[1], _weight=table)
