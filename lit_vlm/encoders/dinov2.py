"""DINOv2's vision transformer, by any of its three implementations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from lit_vlm.encoders.dinov2_ports import (
    PUBLISHED,
    check_entry_point,
    hub_port,
    port_sizes_alone,
    timm_port,
    transformers_port,
)
from lit_vlm.encoders.held_encoder import complete
from lit_vlm.encoders.transformers_network import published_statistics
from lit_vlm.encoders.vit import ViTEncoder


class DINOv2Encoder(ViTEncoder):
    """Read DINOv2, trained on images alone by self-distillation.

    Good at where things are, and blind to how they are called: COMM and others put it beside CLIP.
    The three ports run the same weights and agree at 518 px, where the positions were learned,
    and at every size for the models with registers. Without registers, positions at another size
    are interpolated differently: Meta's code (``hub``) adds an offset of 0.1 patch,
    ``transformers`` does not, and ``timm`` also smooths (antialiases); features then differ by some
    percent. Published results are those of ``hub``.

    Args:
        entry_point: ``torch.hub``'s name: ``dinov2_vits14``, ``b14``, ``l14`` or ``g14``, each also
            with ``_reg`` for those with four registers.
        port: ``transformers``, ``timm`` or ``hub``: whose code runs the network. A checkpoint of
            the last needs the clone again to be loaded.
        pretrained: weights: ``hub`` for Meta's own (downloaded by the port's library), a file of
            Meta's weights, or whatever else the port reads (a folder or hub name of transformers,
            a file of timm's), or a checkpoint (``.ckpt``) of a run of this library, whose encoder
            is taken, sizes included; None for random ones.
        config: sizes that differ from the entry point's: ``embed_dim``, ``depth``, ``num_heads``,
            ``mlp_ratio``, ``patch_size``, ``image_size`` (the side that positions are learned at),
            and further fields of the port's library. Beside weights of transformers, these and the
            entry point say what they must be, so that a run can be planned without them.
        layers: layers to read, in this order; 0 is the embeddings.
        image_size: side of the square input, in pixels, a multiple of the patch size; None for
            518, or what ``config`` or the weights say.
        mean: mean of each channel; None for that published beside the weights, else ImageNet's.
        std: standard deviation of each channel; None likewise.
        repo: for ``port="hub"``: a repository on GitHub, or a folder with a clone of it.
        source: for ``port="hub"``: ``github``, or ``local`` for a clone.
        norm: put every level through the final norm, as Meta's ``get_intermediate_layers`` does.
        pool: also return the class token of the last block after the final norm; the whole network
            is then kept and run.
        gradient_checkpointing: recompute blocks in the backward pass, to save memory.

    Raises:
        ValueError: if the entry point or a layer does not exist, patches do not tile the input, or
            weights and sizes do not fit.
        OSError: if weights or code are not on this machine and cannot be downloaded.

    Source:
        DINOv2 (Oquab et al., 2023), https://arxiv.org/abs/2304.07193; registers: Darcet et al.
        (2023), https://arxiv.org/abs/2309.16588.

    Example:
        >>> sizes = {"embed_dim": 32, "depth": 3, "num_heads": 2}
        >>> encoder = DINOv2Encoder(config=sizes, layers=[2, 3], image_size=56)
        >>> encoder.grid, encoder.dims
        ((4, 4), (32, 32))
    """

    def __init__(
        self,
        entry_point: str = "dinov2_vits14",
        port: Literal["transformers", "timm", "hub"] = "transformers",
        pretrained: str | Path | None = None,
        config: dict[str, Any] | None = None,
        layers: Sequence[int] = (-1,),
        image_size: int | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        repo: str | Path = "facebookresearch/dinov2",
        source: Literal["github", "local"] = "github",
        norm: bool = False,
        pool: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        check_entry_point(entry_point)
        named = {"entry_point": entry_point, "port": port}
        given = complete(self, pretrained, config, image_size, mean, std, **named)
        if port == "transformers":
            made = transformers_port(entry_point, given.config, given.pretrained, given.image_size)
        elif port == "timm":
            made = timm_port(entry_point, given.config, given.pretrained, given.image_size)
        else:
            made = hub_port(entry_point, given.config, given.pretrained, repo, source)
        may_say = port == "transformers" and given.pretrained != PUBLISHED
        said_mean, said_std = published_statistics(given.pretrained if may_say else None)
        super().__init__(
            made.network,
            sizes=made.sizes,
            blocks=made.blocks,
            final_norm=made.final_norm,
            num_prefix=made.num_prefix,
            layers=layers,
            image_size=given.image_size or made.image_size,
            patch_size=made.patch_size,
            mean=given.mean or said_mean or IMAGENET_DEFAULT_MEAN,
            std=given.std or said_std or IMAGENET_DEFAULT_STD,
            norm=norm,
            pool=pool,
            gradient_checkpointing=gradient_checkpointing,
        )
        self._embed = made.embed
        self.resamples_positions = port != "timm"
        given.load_into(self)

    @classmethod
    def sizes_alone(cls, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Return arguments that make the network without its weights; see ``meta_model``."""
        return port_sizes_alone(arguments)

    def embed(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B T D"]:
        """Embed patches, prepend the class token and the registers, add positions."""
        return self._embed(self.network, pixels)

    def pool_tokens(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B D"]:
        """Return the class token."""
        return tokens[:, 0]
