"""A connector made of two, one behind the other."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from lit_vlm.connectors.base import Connector


class SequentialConnector(Connector):
    """Put the visual tokens through one connector, then through another.

    For a connector whose first half is somebody else's: DeepSpeed-VisualChat takes Qwen-VL's
    encoder with its trained resampler, keeps both frozen, and trains only a linear layer and a norm
    that carry the 256 tokens to its language model. Freeze the first half by its name,
    ``connector.first``; ``connector`` freezes both.

    Its parameters and its tokens are those of the two.

    Args:
        in_dim: width of the vision tokens.
        out_dim: width of the language model's embeddings.
        first: reads the vision tokens; made with their width and ``hidden_dim``.
        then: reads what ``first`` returns; made with ``hidden_dim`` and ``out_dim``.
        hidden_dim: width between the two; None for ``out_dim``.

    Raises:
        ValueError: if ``hidden_dim`` is less than 1.

    Source:
        DeepSpeed-VisualChat (Yao et al., 2023), https://arxiv.org/abs/2309.14327: ``first`` is a
        ``CrossAttentionResampler``, ``then`` a ``LinearConnector`` with ``norm=True``.

    Example:
        >>> import torch
        >>> from lit_vlm.connectors import LinearConnector, PoolingConnector
        >>> connector = SequentialConnector(8, 12, PoolingConnector, LinearConnector, hidden_dim=6)
        >>> connector(torch.zeros(1, 16, 8)).shape
        torch.Size([1, 4, 12])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        first: Callable[[int, int], Connector],
        then: Callable[[int, int], Connector],
        hidden_dim: int | None = None,
    ) -> None:
        super().__init__(in_dim, out_dim)
        if hidden_dim is not None and hidden_dim < 1:
            raise ValueError(
                f"SequentialConnector: hidden_dim must be at least 1, got {hidden_dim}. Leave it "
                f"out for the width of the language model."
            )
        between = hidden_dim or out_dim
        self.first = first(in_dim, between)
        self.then = then(between, out_dim)

    def num_tokens(self, num_patches: int) -> int:
        """Return how many tokens ``then`` makes of those that ``first`` makes."""
        return self.then.num_tokens(self.first.num_tokens(num_patches))

    def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B M D_out"]:
        """Run both."""
        return self.then(self.first(tokens))
