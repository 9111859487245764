"""Exceptions to one message that a user can act on."""

import re
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

_USERS_OWN = (ValueError, TypeError, OSError, ImportError, MisconfigurationException)
_WORKER = re.compile(r"^Caught \w+ in DataLoader worker process \d+\.")
_LAST_LINE = re.compile(r"^[\w.]+: ")


def explain(error: BaseException) -> str | None:
    """Return what to tell a user, or None for what is no mistake of theirs.

    Example:
        >>> explain(ValueError("batch_size must be at least 1, got 0."))
        'batch_size must be at least 1, got 0.'
    """
    if isinstance(error, RuntimeError) and "Error(s) in loading state_dict" in str(error):
        return _unfitting_weights(str(error))
    if not isinstance(error, _USERS_OWN):
        return None
    cause = root_cause(error)
    message = str(cause) or type(cause).__name__
    if _WORKER.match(message):
        message = _LAST_LINE.sub("", message.strip().splitlines()[-1])
    return message


def root_cause(error: BaseException) -> BaseException:
    """Return what an error of jsonargparse's or Lightning's wrappers was raised from.

    Our own messages already name their cause, so they are not unwrapped.
    """
    while error.__cause__ is not None and _wraps(error):
        error = error.__cause__
    return error


def _wraps(error: BaseException) -> bool:
    traceback: Any = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "") if traceback is not None else ""
    return str(module).partition(".")[0] in ("jsonargparse", "lightning", "argparse")


def _unfitting_weights(message: str) -> str:
    problems = [line.strip() for line in message.splitlines()[1:] if line.strip()]
    shown = "\n  ".join(problem[:200] for problem in problems[:5])
    more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
    return (
        f"the checkpoint's weights do not fit the model that was configured:\n  {shown}{more}\n"
        f"Leave --config out to rebuild the checkpoint's own model, or configure the same parts."
    )
