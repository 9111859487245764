"""SigLIP's vision transformer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import SiglipVisionModel

from lit_vlm.encoders.held_encoder import complete
from lit_vlm.encoders.transformers_network import (
    make_network,
    published_statistics,
    sizes_of,
    sizes_of_folder,
)
from lit_vlm.encoders.vit import ViTEncoder
from lit_vlm.llava_checkpoint import warn_of_other_tokens
from lit_vlm.positions import interpolate_positions


class SigLIPEncoder(ViTEncoder):
    """Read the vision transformer of SigLIP or SigLIP 2 (those of a fixed resolution).

    Trained by the sigmoid loss on image-text pairs; the eye of PaLI-3 and PaliGemma, which read
    its last layer after the final norm and before pooling: ``layers=[-1]``, ``norm=True``. There
    is no class token; the pooled output is that of an attention head.

    Args:
        config: sizes for random weights, or for weights in a file: fields of transformers'
            ``SiglipVisionConfig``, or timm's words for them (``embed_dim``, ``depth``,
            ``num_heads``, ``mlp_ratio``). Its ``image_size`` is the side that positions are
            learned at; by default that of the input. Beside weights of a folder or of the hub it
            says what they must be, so that a run can be planned without them.
        pretrained: weights: a hub name (``google/siglip2-so400m-patch14-384``), a local folder, a
            file of transformers' weights, or a checkpoint (``.ckpt``) of a run of this library,
            whose encoder is taken, sizes included; None for random ones. Of a LLaVA the vision
            tower alone is read.
        layers: layers to read, in this order; 0 is the embeddings.
        image_size: side of the square input, in pixels, a multiple of the patch size; positions
            are interpolated (bicubic) if they were learned at another; None for the network's own.
        mean: mean of each channel; None for those published beside the weights, else 0.5.
        std: standard deviation of each channel; None likewise.
        norm: put every level through the final norm.
        pool: also return the output of the attention-pooling head; the whole network is then kept
            and run.
        gradient_checkpointing: recompute blocks in the backward pass, to save memory.

    Raises:
        ValueError: if a layer does not exist, patches do not tile the input, or weights and sizes
            do not fit.
        OSError: if weights are not on this machine and cannot be downloaded.

    Source:
        SigLIP (Zhai et al., 2023), https://arxiv.org/abs/2303.15343; SigLIP 2 (Tschannen et al.,
        2025), https://arxiv.org/abs/2502.14786; the network is transformers'.

    Example:
        >>> sizes = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 8}
        >>> encoder = SigLIPEncoder(sizes, layers=[-1], image_size=32, norm=True)
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
        norm: bool = False,
        pool: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        given = complete(self, pretrained, config, image_size, mean, std)
        network = make_network(
            "SigLIPEncoder",
            SiglipVisionModel,
            ("siglip", "siglip_vision_model"),
            given.config,
            given.pretrained,
            image_size=given.image_size,
        )
        if pool and not network.use_head:
            raise ValueError(
                "SigLIPEncoder: pool must be off for a network without its attention-pooling head "
                "(vision_use_head: false), got pool=True."
            )
        said_mean, said_std = published_statistics(given.pretrained)
        super().__init__(
            network,
            sizes=sizes_of(network),
            blocks="encoder.layers",
            final_norm="post_layernorm",
            num_prefix=0,
            layers=layers,
            image_size=given.image_size or network.config.image_size,
            patch_size=network.config.patch_size,
            mean=given.mean or said_mean or (0.5, 0.5, 0.5),
            std=given.std or said_std or (0.5, 0.5, 0.5),
            norm=norm,
            pool=pool,
            gradient_checkpointing=gradient_checkpointing,
        )
        given.load_into(self)
        warn_of_other_tokens("SigLIPEncoder", given.pretrained, self._layers, has_class_token=False)

    @classmethod
    def sizes_alone(cls, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Return arguments that make the network without its weights; see ``meta_model``."""
        return sizes_of_folder(cls.__name__, SiglipVisionModel, arguments)

    def embed(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
        """Embed patches and add positions."""
        embeddings = self.network.embeddings
        tokens = embeddings.patch_embedding(pixels).flatten(2).mT
        table = embeddings.position_embedding.weight
        return tokens + interpolate_positions(table, self.grid_of(pixels))

    def run_block(self, block: nn.Module, tokens: Float[Tensor, "B N D"]) -> Tensor:
        """Run one block without a mask."""
        return block(tokens, None)

    def pool_tokens(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B D"]:
        """Return what the attention-pooling head makes of the tokens."""
        return self.network.head(tokens)

    def cut_head(self, keep_norm: bool) -> None:
        """Remove the pooling head too."""
        super().cut_head(keep_norm)
        self.network.head = None
