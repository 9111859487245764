"""Connectors: visual tokens into the language model's embedding space."""

from lit_vlm.connectors.base import Connector
from lit_vlm.connectors.linear import LinearConnector
from lit_vlm.connectors.mlp import MLPConnector

__all__ = ["Connector", "LinearConnector", "MLPConnector"]
