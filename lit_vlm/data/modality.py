"""Which samples show images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lit_vlm.data.sources import ConversationSource


def shows_images(sources: Sequence[ConversationSource]) -> NDArray[np.bool_]:
    """Return, for each sample of some sources one after another, whether it has an image."""
    shown = [bool(source.image_keys(i)) for source in sources for i in range(len(source))]
    return np.array(shown, dtype=np.bool_)
