"""What the command line's user is not told by Lightning and by Python's warnings."""

import logging
import warnings
from typing import Any

_NO_NEWS = (
    "💡 Tip",
    "GPU available: False",
    "TPU available: False",
    "`Trainer(limit_",
    "Restoring states from",  # followed by what was restored
)


def quieten(command: str) -> None:
    """Leave out what is no news, and show warnings without the code that gave them.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
    """
    # Lightning on this torch warns once per data loader, and advertises two of its products.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Frozen parts are in evaluation mode on purpose.
    warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training.*")
    if command != "fit":  # callbacks that chose a checkpoint in training have nothing to do
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`.*")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(_is_news)
    warnings.formatwarning = _format_warning


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_NO_NEWS)


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: Any = None
) -> str:
    # A warning to the user says where to look itself; others are for developers.
    place = "" if issubclass(category, UserWarning) else f"{filename}:{lineno}: "
    return f"{place}{category.__name__}: {message}\n"
