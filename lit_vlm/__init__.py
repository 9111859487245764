"""Compose a vision encoder, a fusion, a connector and a language model; train them with Lightning.

Axis letters in signatures and docstrings: B samples (before an encoder: images), I images of a
batch, C H W pixels, K encoders, N vision tokens, M connector tokens, T text or merged tokens, D
width (D_in, D_out), V vocabulary; ``_`` any size.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_vlm.model import VisionLanguageModel

__version__ = "0.1.0"
__all__ = ["VisionLanguageModel", "__version__"]


def __getattr__(name: str) -> Any:
    # Loaded on demand, so that `lit-vlm --help` does not wait for torch.
    if name == "VisionLanguageModel":
        from lit_vlm.model import VisionLanguageModel

        return VisionLanguageModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
