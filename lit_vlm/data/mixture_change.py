"""What becomes of a mixture's counts when a run goes on with other shares."""

from collections.abc import Sequence
from typing import Any

_UNKNOWN = (
    "The shares of this stage were changed while it ran, {why}: how many rows of each source were "
    "read is not known."
)


def asked(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a record says of the mixture, without what was read of it."""
    sources = [
        {key: value for key, value in source.items() if key != "delivered_rows"}
        for source in record["sources"]
    ]
    own = {key: value for key, value in record.items() if key not in ("changed", "note")}
    return {**own, "sources": sources}


def change_of(
    before: dict[str, Any] | None, record: dict[str, Any], start: Sequence[int]
) -> dict[str, Any]:
    """Return what a record needs besides, where a run goes on within a stage.

    Args:
        before: what the run folder says of that stage; None if nothing.
        record: of the mixture that comes; see ``mixture_record``.
        start: rows of each source that its shares would have given by now.

    Returns:
        Nothing; or ``changed``, in which ``correction`` is what must be added to the rows of each
        source that the shares would give, from so many ``rows`` of all sources on; or a ``note``
        why that cannot be known.
    """
    if before is None or not sum(start):
        return {}
    if "note" in before:
        return {"note": before["note"]}
    if asked(before) != asked(record):
        read = {source["name"]: source.get("delivered_rows") for source in before["sources"]}
        if None in read.values():
            return {"note": _UNKNOWN.format(why="and rows were not counted before")}
        if sum(read.values()) != sum(start):
            return {"note": _UNKNOWN.format(why="elsewhere than where the last count was written")}
        names = [source["name"] for source in record["sources"]]
        added = [read.get(name, 0) - rows for name, rows in zip(names, start, strict=True)]
        return {"changed": {"rows": sum(start), "correction": added}}
    changed = before.get("changed")
    if changed is not None and sum(start) < changed["rows"]:
        return {"note": _UNKNOWN.format(why="then went on from before the change")}
    return {} if changed is None else {"changed": changed}
