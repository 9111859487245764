"""COMM's fusion: several layers of several encoders, merged and aligned."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.fusions.base import Fusion
from lit_vlm.fusions.lln_layerscale import LLNLayerscale


class COMMFusion(Fusion):
    """Merge the levels of each encoder, align some of the maps by MLPs, concatenate on channels.

    Each encoder has an ``LLNLayerscale`` of its own. COMM aligns DINOv2, the second encoder, which
    never saw text, by two MLPs of ratio 4: in the paper's ablation, with DINOv2 alone, a linear
    layer reached 71.9 % on RefCOCO's validation set, one MLP 79.6 and two 81.4. Mind the depth:
    four MLPs fell to 57.9 % there and eight to 14.9.

    A ``LinearConnector`` completes COMM, which reads CLIP's blocks 1 to 24 and DINOv2's 19 to 24.

    Args:
        in_dims: widths of the levels, encoder by encoder.
        scale: how the scales of the levels are learned, see ``LLNLayerscale``.
        mlp_depth: MLPs in a row on a branch, at least 1; each is two linear layers and a GELU.
        mlp_ratio: width of an MLP's hidden layer, in widths of the branch.
        mlp_encoders: encoders whose branch has the MLPs, by index, negative ones from the end;
            empty for none.
        residual: whether the MLPs add to their input; the paper names no residual connections.

    Raises:
        ValueError: if there is no such encoder, or an MLP would have no layers or no width.

    Source:
        COMM (Jiang et al., 2023), https://arxiv.org/abs/2310.08825. Its formula can also be read
        as an MLP on the concatenation; its figure shows it on DINOv2's branch, as here.

    Example:
        >>> import torch
        >>> fusion = COMMFusion([[8, 8, 8], [12, 12]])
        >>> fusion(tuple(torch.zeros(1, 16, width) for width in (8, 8, 8, 12, 12))).shape
        torch.Size([1, 16, 20])
    """

    def __init__(
        self,
        in_dims: Sequence[Sequence[int]],
        scale: Literal["free", "softmax"] = "free",
        mlp_depth: int = 2,
        mlp_ratio: int | float = 4.0,
        mlp_encoders: Sequence[int] = (1,),
        residual: bool = False,
    ) -> None:
        super().__init__(in_dims)
        if mlp_depth < 1:
            raise ValueError(
                f"COMMFusion: mlp_depth must be at least 1, got {mlp_depth}. Give mlp_encoders=[] "
                f"for no MLP."
            )
        with_mlp = _resolve(mlp_encoders, len(self.in_dims))
        self.merges = nn.ModuleList(LLNLayerscale([dims], scale=scale) for dims in self.in_dims)
        widths = [dims[0] for dims in self.in_dims]
        self.mlps = nn.ModuleList(
            _MLPs(width, mlp_depth, mlp_ratio, residual) if encoder in with_mlp else nn.Identity()
            for encoder, width in enumerate(widths)
        )
        self.out_dim = sum(widths)

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches``: the encoders' patches coincide."""
        return num_patches

    def forward(self, levels: tuple[Float[Tensor, "B N _"], ...]) -> Float[Tensor, "B N D_out"]:
        """Merge, align and concatenate the encoders' branches."""
        branches = zip(self.merges, self.mlps, self.by_encoder(levels), strict=True)
        return torch.cat([mlp(merge(own)) for merge, mlp, own in branches], dim=-1)


class _MLPs(nn.Module):
    """Two linear layers and a GELU, ``depth`` times, all of one width outside."""

    def __init__(self, dim: int, depth: int, ratio: int | float, residual: bool) -> None:
        super().__init__()
        if not ratio * dim >= 1:
            raise ValueError(
                f"COMMFusion: mlp_ratio must give a hidden layer of at least one unit, got {ratio} "
                f"for a width of {dim}. Give a larger ratio; the paper's are 4 to 16."
            )
        hidden = int(ratio * dim)
        self.residual = residual
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
            for _ in range(depth)
        )

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        for mlp in self.layers:
            tokens = tokens + mlp(tokens) if self.residual else mlp(tokens)
        return tokens


def _resolve(encoders: Sequence[int], count: int) -> set[int]:
    for encoder in encoders:
        if not -count <= encoder < count:
            raise ValueError(
                f"COMMFusion: mlp_encoders must name encoders from {-count} to {count - 1}, the "
                f"model has {count}, got {encoder}. Give mlp_encoders={list(range(count))} for "
                f"MLPs on every branch, or [] for none."
            )
    return {encoder % count for encoder in encoders}
