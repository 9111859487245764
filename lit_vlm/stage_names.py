"""The stages that a command line speaks of, before they are made."""

from collections.abc import Sequence
from typing import Any

from lit_vlm.errors import ConfigError, nearest
from lit_vlm.merged_plans import plan_of

_PLAN = "staged_freezing.stages"
_OPTION = f"--{_PLAN}"


def check_stage_names(contents: Sequence[dict[str, Any]], words: Sequence[str]) -> None:
    """Refuse an option of a stage that no config has, unless it makes a new one.

    The parser would say that ``trains`` is missing, of a stage that it does not name.

    Args:
        contents: what the configs say, in order.
        words: of the command line.

    Raises:
        ConfigError: if there is one.
    """
    options = [word.partition("=")[0] for word in words]
    if _OPTION in options:
        return  # all stages are said anew
    known = list(plan_of(contents, _PLAN))
    asked: dict[str, list[str]] = {}
    for option in options:
        if option.startswith(f"{_OPTION}."):
            name, _, key = option.removeprefix(f"{_OPTION}.").partition(".")
            asked.setdefault(name, []).append(key)
    for name, keys in asked.items():
        if name not in known and "trains" not in keys:
            raise ConfigError(
                f"config error at staged_freezing.stages: {name} is new and must name what it "
                f"trains (trains), got {' and '.join(keys)} alone.{nearest(name, known)}"
            )
