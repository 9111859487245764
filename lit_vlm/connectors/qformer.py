"""A connector whose learned queries are a small BERT that reads the visual tokens."""

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from lit_vlm.connectors.base import Connector
from lit_vlm.connectors.heads import resolve_heads


class QFormerConnector(Connector):
    """Read any number of visual tokens by a Q-Former, then project its queries linearly.

    The queries attend to each other in every layer and to the visual tokens in every second one.
    It makes the shortest sequences, BLIP-2's 32 tokens from 257, and costs the most data: BLIP-2
    pretrains it on 129 million images before it meets a language model. Positions are only those
    that the encoder put into its tokens.

    It costs 104.8 million parameters from 1024 to 4096.

    Args:
        in_dim: width of the vision tokens.
        out_dim: width of the language model's embeddings.
        num_queries: number of tokens for the language model, at least 1.
        depth: number of layers, at least 1.
        width: width of the Q-Former.
        num_heads: number of attention heads, a divisor of ``width``; None for ``width // 64``, or
            the next smaller number that divides it.
        cross_attention_frequency: the visual tokens are read in layers 0, ``frequency``,
            ``2 * frequency``, ...
        dropout: probability of dropping hidden values and attention weights; BLIP-2's is 0.1.

    Raises:
        ValueError: if a number is less than 1, or ``num_heads`` does not divide ``width``.

    Source:
        BLIP-2 (Li et al., 2023), https://arxiv.org/abs/2301.12597, the code of transformers. BLIP-2
        norms the visual tokens first; an encoder does it with ``norm: true``.

    Example:
        >>> import torch
        >>> connector = QFormerConnector(in_dim=8, out_dim=12, num_queries=4, depth=2, width=16)
        >>> connector(torch.zeros(1, 15, 8)).shape
        torch.Size([1, 4, 12])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_queries: int = 32,
        depth: int = 12,
        width: int = 768,
        num_heads: int | None = None,
        cross_attention_frequency: int = 2,
        dropout: int | float = 0.0,
    ) -> None:
        super().__init__(in_dim, out_dim)
        numbers = {"num_queries": num_queries, "depth": depth, "width": width}
        numbers["cross_attention_frequency"] = cross_attention_frequency
        for name, value in numbers.items():
            if value < 1:
                raise ValueError(f"QFormerConnector: {name} must be at least 1, got {value}.")
        config = Blip2QFormerConfig(
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=resolve_heads("QFormerConnector", width, num_heads, head_dim=64),
            intermediate_size=4 * width,
            encoder_hidden_size=in_dim,
            cross_attention_frequency=cross_attention_frequency,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        self.num_queries = num_queries
        self.queries = nn.Parameter(torch.empty(num_queries, width))
        nn.init.normal_(self.queries, std=config.initializer_range)
        self.qformer = Blip2QFormerModel(config)
        self.project = nn.Linear(width, out_dim)

    def num_tokens(self, num_patches: int) -> int:
        """Return ``num_queries``."""
        return self.num_queries

    def forward(self, tokens: Float[Tensor, "B N D_in"]) -> Float[Tensor, "B M D_out"]:
        """Let the queries read the tokens, in whatever order."""
        queries = repeat(self.queries, "m d -> b m d", b=tokens.shape[0])
        read = self.qformer(query_embeds=queries, encoder_hidden_states=tokens)
        return self.project(read.last_hidden_state)
