"""What transformers says while it is asked for what it warns of."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils.logging import get_verbosity, set_verbosity


@contextmanager
def silent_transformers() -> Iterator[None]:
    """Let transformers report nothing meanwhile; who asks for it checks what matters."""
    level = get_verbosity()
    set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        set_verbosity(level)
