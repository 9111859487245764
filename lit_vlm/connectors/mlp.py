"""A connector that projects each visual token by a small network."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from lit_vlm.connectors.base import Connector
from lit_vlm.connectors.held_connector import load_connector, without_pretrained
from lit_vlm.llava_checkpoint import Projector

Activation = Literal["gelu", "relu", "silu", "tanh"]

_ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


class MLPConnector(Connector):
    """Project each visual token by ``depth`` linear layers with an activation between them.

    LLaVA 1.5 replaced one linear layer by two (``depth=2``, GELU) and gained on most benchmarks.
    Every hidden layer is as wide as the output, as in LLaVA's ``mlpNx_gelu``, unless ``width`` says
    otherwise: prismatic's ``fused-gelu-mlp`` is ``depth=3, width=[4 * in_dim, out_dim]``. From 1024
    to 4096 it costs 21.0 million parameters, and every patch keeps its own token.

    Args:
        in_dim: width of the vision tokens.
        out_dim: width of the language model's embeddings.
        depth: number of linear layers, at least 1; 1 is a ``LinearConnector``.
        activation: what stands between the layers; ``gelu`` is the exact one.
        width: width of the hidden layers, one number for all or a list with one for each of the
            ``depth - 1``; None for that of the output.
        pretrained: weights: a LLaVA in the Hugging Face form (``llava-hf/llava-1.5-7b-hf`` or a
            local folder), whose projector alone is read; the file in which LLaVA's own code saves
            one (``mm_projector.bin``); or a checkpoint (``.ckpt``) of a run of this library, whose
            connector is taken; None for random ones.

    Raises:
        ValueError: if ``depth`` is less than 1, the activation is unknown, the widths are not those
            of ``depth - 1`` hidden layers, or weights are of another kind or other shapes.
        OSError: if weights are not on this machine and cannot be downloaded.

    Source:
        LLaVA 1.5 (Liu et al., 2023), https://arxiv.org/abs/2310.03744; Prismatic VLMs (Karamcheti
        et al., 2024), https://arxiv.org/abs/2402.07865.

    Example:
        >>> import torch
        >>> MLPConnector(in_dim=8, out_dim=12, depth=3)(torch.zeros(1, 16, 8)).shape
        torch.Size([1, 16, 12])
        >>> [layer.out_features for layer in MLPConnector(8, 12, 3, width=[32, 12]).layers[::2]]
        [32, 12, 12]
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        depth: int = 2,
        activation: Activation = "gelu",
        width: int | Sequence[int] | None = None,
        pretrained: str | Path | None = None,
    ) -> None:
        super().__init__(in_dim, out_dim)
        if depth < 1:
            raise ValueError(f"MLPConnector: depth must be at least 1, got {depth}.")
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"MLPConnector: activation must be one of {', '.join(_ACTIVATIONS)}, "
                f"got {activation!r}."
            )
        dims = [*_hidden_widths(depth, width, out_dim), out_dim]
        layers: list[nn.Module] = [nn.Linear(in_dim, dims[0])]
        for before, after in pairwise(dims):
            layers += [_ACTIVATIONS[activation](), nn.Linear(before, after)]
        self.layers = nn.Sequential(*layers)
        self.activation = activation
        load_connector(self, pretrained, self._of_projector)

    def rebuild_config(self) -> dict[str, Any]:
        """Name the sizes; the weights come from the checkpoint."""
        return without_pretrained(super().rebuild_config())

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_patches``."""
        return num_patches

    def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B N D_out"]:
        """Project each token."""
        return self.layers(tokens)

    def _of_projector(self, projector: Projector) -> dict[str, Tensor]:
        if len(self.layers) != 3 or projector.activation != self.activation:
            raise ValueError(
                f"MLPConnector: a LLaVA's projector needs depth=2 and activation="
                f"{projector.activation!r}, as its config.json says, got "
                f"depth={len(self.layers) // 2 + 1} and activation={self.activation!r}."
            )
        places = {"linear_1": "layers.0", "linear_2": "layers.2"}
        named = (key.split(".") for key in projector.weights)
        found = {f"{places[at]}.{of}": projector.weights[f"{at}.{of}"] for at, of in named}
        for place in places.values():  # LLaVAs without a bias compute what those with zeros do
            width = len(found[f"{place}.weight"])
            found.setdefault(f"{place}.bias", found[f"{place}.weight"].new_zeros(width))
        return found


def _hidden_widths(depth: int, width: int | Sequence[int] | None, out_dim: int) -> list[int]:
    if width is None:
        return [out_dim] * (depth - 1)
    hidden = [width] * (depth - 1) if isinstance(width, int) else list(width)
    if not hidden or len(hidden) != depth - 1 or min(hidden) < 1:
        raise ValueError(
            f"MLPConnector: width must be positive, one number for all or a list with one for each "
            f"hidden layer, of which depth={depth} has {depth - 1}, got {width}. Leave it out for "
            f"hidden layers as wide as the output."
        )
    return hidden
