"""Connectors: visual tokens into the language model's embedding space."""

from lit_vlm.connectors.base import Connector
from lit_vlm.connectors.linear import LinearConnector
from lit_vlm.connectors.mlp import MLPConnector
from lit_vlm.connectors.pixel_shuffle import PixelShuffleConnector
from lit_vlm.connectors.pooling import PoolingConnector
from lit_vlm.connectors.qformer import QFormerConnector
from lit_vlm.connectors.resampler import CrossAttentionResampler
from lit_vlm.connectors.sequential import SequentialConnector
from lit_vlm.connectors.transformer import TransformerConnector

__all__ = [
    "Connector",
    "CrossAttentionResampler",
    "LinearConnector",
    "MLPConnector",
    "PixelShuffleConnector",
    "PoolingConnector",
    "QFormerConnector",
    "SequentialConnector",
    "TransformerConnector",
]
