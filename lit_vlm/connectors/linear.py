"""The simplest connector: one matrix."""

from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.connectors.base import Connector
from lit_vlm.connectors.held_connector import load_connector, without_pretrained
from lit_vlm.llava_checkpoint import Projector


class LinearConnector(Connector):
    """Project each visual token by one linear layer.

    The fewest parameters, and every patch keeps its own token; LLaVA 1.0 and PaLI-3 use it. With
    ``norm`` it is DeepSpeed-VisualChat's ``baseline``.

    Args:
        in_dim: width of the vision tokens.
        out_dim: width of the language model's embeddings.
        norm: put a LayerNorm (epsilon 1e-12) behind the matrix.
        pretrained: weights: a LLaVA in the Hugging Face form (hub name or local folder) whose
            projector has no activation (``projector_hidden_act: linear``), so that its two layers
            are one, or a checkpoint (``.ckpt``) of a run of this library, whose connector is taken;
            None for random ones.

    Raises:
        ValueError: if weights are of another kind or other shapes.
        OSError: if weights are not on this machine and cannot be downloaded.

    Source:
        LLaVA (Liu et al., 2023), https://arxiv.org/abs/2304.08485; the norm: DeepSpeed-VisualChat
        (Yao et al., 2023), https://arxiv.org/abs/2309.14327.

    Example:
        >>> import torch
        >>> LinearConnector(in_dim=8, out_dim=12)(torch.zeros(1, 16, 8)).shape
        torch.Size([1, 16, 12])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        norm: bool = False,
        pretrained: str | Path | None = None,
    ) -> None:
        super().__init__(in_dim, out_dim)
        self.linear = nn.Linear(in_dim, out_dim)
        self.norm = nn.LayerNorm(out_dim, eps=1e-12) if norm else nn.Identity()
        load_connector(self, pretrained, _of_projector)

    def rebuild_config(self) -> dict[str, Any]:
        """Name the sizes; the weights come from the checkpoint."""
        return without_pretrained(super().rebuild_config())

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches``."""
        return num_patches

    def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B N D_out"]:
        """Project each token."""
        return self.norm(self.linear(tokens))


def _of_projector(projector: Projector) -> dict[str, Tensor]:
    if projector.activation != "linear":
        raise ValueError(
            f"LinearConnector: a LLaVA's projector must have no activation between its layers, to "
            f"be one matrix, got {projector.activation}. Take MLPConnector."
        )
    weights = {name: weight.double() for name, weight in projector.weights.items()}
    first, second = weights["linear_1.weight"], weights["linear_2.weight"]
    bias = second @ weights.get("linear_1.bias", first.new_zeros(len(first)))
    bias = bias + weights.get("linear_2.bias", second.new_zeros(len(second)))
    return {"linear.weight": second @ first, "linear.bias": bias}
