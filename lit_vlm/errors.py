"""Exceptions to one message that a user can act on."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

_WORKER = re.compile(r"^Caught \w+ in DataLoader worker process \d+\.")
_ERROR_NAME = re.compile(r"^[\w.]+: ")


class ConfigError(Exception):
    """A mistake on the command line or in a config; the message says where and what is near."""


def nearest(word: str, known: Iterable[str], list_all: bool = True) -> str:
    """Return a hint that names what a word may have been meant to be, or all there is.

    Args:
        word: what was written.
        known: what could have been.
        list_all: list everything known if nothing is near, unless it is long.

    Example:
        >>> nearest("max_epoch", ["max_epochs", "devices"])
        ' Did you mean: max_epochs?'
    """
    options = sorted(set(known))
    if found := difflib.get_close_matches(word, options, n=3, cutoff=0.6):
        return f" Did you mean: {', '.join(found)}?"
    return f" Accepted: {', '.join(options)}." if list_all and 0 < len(options) < 40 else ""


def explain(error: BaseException) -> str | None:
    """Return what to tell a user, or None for what is no mistake of theirs.

    Example:
        >>> explain(ValueError("batch_size must be at least 1, got 0."))
        'batch_size must be at least 1, got 0.'
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    if isinstance(error, RuntimeError) and "Error(s) in loading state_dict" in str(error):
        return _unfitting_weights(str(error))
    if isinstance(error, RuntimeError) and str(error).startswith("PytorchStreamReader"):
        return f"the checkpoint must be whole, got a damaged one: {str(error).partition('.')[0]}."
    users_own = (ConfigError, ValueError, TypeError, OSError, ImportError)
    if not isinstance(error, (*users_own, MisconfigurationException)):
        return None
    cause = root_cause(error)
    message = str(cause) or type(cause).__name__
    if _WORKER.match(message):
        message = _ERROR_NAME.sub("", message.strip().splitlines()[-1])
    return _undefined_variable(message) or message


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


def _undefined_variable(message: str) -> str | None:
    found = re.search(r"Interpolation key '\.*([\w.]+)' not found", message)
    if found is None:
        return None
    place = re.search(r"full_key: \w+\.(\S+)", message)
    where = f"config error at {place[1]}: " if place else ""
    return (
        f"{where}${{{found[1]}}} must be a key of the config, got none. Define it there or on the "
        f"command line (--{found[1]} VALUE)."
    )


def _unfitting_weights(message: str) -> str:
    problems = [line.strip() for line in message.splitlines()[1:] if line.strip()]
    shown = "\n  ".join(_shortened(problem) for problem in problems[:5])
    more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
    return (
        f"the checkpoint's weights do not fit the model that was configured:\n  {shown}{more}\n"
        f"Leave --config out to rebuild the checkpoint's own model, or configure the same parts."
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]} ..."
