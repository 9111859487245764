"""In what proportions a run's sources are mixed: said, and kept in the run folder."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lit_vlm.data.mixture import Mixture
from lit_vlm.data.mixture_change import asked, change_of
from lit_vlm.data.mixture_order import MixtureOrder
from lit_vlm.data.mixture_record import mixture_record, mixture_table
from lit_vlm.data.sampling import TrainingOrder
from lit_vlm.data.stage_batches import StagedPass
from lit_vlm.whole_file import whole_file

RECORD = "mixture.json"


class MixtureReport:
    """Print each mixture of a run once, and write how many rows of each source were read.

    What the run folder's ``mixture.json`` holds of the stages before is kept by a run that goes on,
    and what it holds of later stages, which are to be run again, is not. Where a stage goes on with
    other shares, the rows that the former ones gave are counted too; where they are not known,
    ``delivered_rows`` is null and a ``note`` says why. Of several ranks the first alone does this.
    """

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []
        self._delivered: Callable[[], list[int]] | None = None
        self._folder: Path | None = None
        self._told = False

    def tell(
        self,
        trainer: Any,
        mixture: Mixture,
        order: TrainingOrder | MixtureOrder,
        samples: Sequence[int],
        step: int,
        staged: StagedPass | None,
    ) -> None:
        """Take up a mixture: at its beginning, at another pass of it, or in a resumed run.

        Nothing is said of sources that are neither weighed nor have names.

        Args:
            trainer: counts the batches; nothing is done without one.
            mixture: what is asked for.
            order: what it becomes.
            samples: number of samples of each source.
            step: rows of a batch over all ranks.
            staged: the pass of a stage that comes; None for all passes of a run.
        """
        self.close()
        several = mixture.named and len(samples) > 1 and all(samples)
        if trainer is None or trainer.global_rank or not (mixture.is_weighted or several):
            return
        if staged is not None and staged.begin == staged.end:
            return  # Lightning only closes a pass that has ended
        self._folder = None if trainer.fast_dev_run else Path(trainer.default_root_dir)
        record = mixture_record(staged and staged.name, mixture, order, samples)
        if not self._records and trainer.global_step > 0:
            self._records = self._read()
            if isinstance(order, MixtureOrder):
                record |= self._change(record, rows_before(trainer, order, staged, step))
        self._begin(record, stage_names(trainer))
        if isinstance(order, MixtureOrder):
            self._delivered = rows_given(trainer, order, staged, step)
        self._write()

    def _begin(self, record: dict[str, Any], stages: Sequence[str]) -> None:
        """Print what is new, and put it behind what the stages before have read."""
        if self._told and asked(self._records[-1]) == asked(record):
            return
        self._told = True
        Console().print(mixture_table(record))
        places = {name: place for place, name in enumerate(stages)}
        here = places.get(record["stage"], len(places))
        kept = [
            old
            for old in self._records
            if old["stage"] != record["stage"] and places.get(old["stage"], -1) < here
        ]
        kept.sort(key=lambda old: places.get(old["stage"], -1))
        self._records = [*kept, record]

    def _change(self, record: dict[str, Any], start: list[int]) -> dict[str, Any]:
        of_stage = [old for old in self._records if old["stage"] == record["stage"]]
        return change_of(of_stage[-1] if of_stage else None, record, start)

    def close(self) -> None:
        """Write what was read by now, for the last time if no other pass begins."""
        self._write()
        self._delivered = None

    def _write(self) -> None:
        if not self._records or self._folder is None:
            return
        if self._delivered is not None:
            now, given = self._records[-1], self._delivered()
            added = now.get("changed", {}).get("correction", [0] * len(given))
            for source, rows, more in zip(now["sources"], given, added, strict=True):
                source["delivered_rows"] = None if "note" in now else rows + more
        with whole_file(self._folder / RECORD) as file:
            json.dump({"mixtures": self._records}, file, indent=2)
            file.write("\n")

    def _read(self) -> list[dict[str, Any]]:
        path = None if self._folder is None else self._folder / RECORD
        if path is None or not path.is_file():
            return []
        return list(json.loads(path.read_text(encoding="utf-8"))["mixtures"])


def stage_names(trainer: Any) -> list[str]:
    """Return the names of a run's stages, in the order of its plan; none if it has none."""
    callbacks = getattr(trainer, "callbacks", [])
    return [name for each in callbacks if hasattr(each, "next_batches") for name in each.stages]


def rows_before(
    trainer: Any, order: MixtureOrder, staged: StagedPass | None, step: int
) -> list[int]:
    """Return the rows of each source that a mixture gives before the pass, or its rest, begins.

    Args:
        trainer: see ``rows_given``.
        order: likewise.
        staged: likewise.
        step: likewise.
    """
    if staged is None:
        return rows_given(trainer, order, staged, step)()
    return order.counts(staged.epoch, min(staged.begin * step, order.advance))


def rows_given(
    trainer: Any, order: MixtureOrder, staged: StagedPass | None, step: int
) -> Callable[[], list[int]]:
    """Return what counts the rows of each source that a mixture has given by now.

    Args:
        trainer: counts the batches.
        order: the mixture's.
        staged: the pass of a stage; None for all passes of a run.
        step: rows of a batch over all ranks.
    """

    def given() -> list[int]:
        progress = trainer.fit_loop.epoch_loop.batch_progress
        if staged is not None:
            epoch, batches = staged.epoch, progress.current.processed
        else:
            per_pass = max(1, -(-order.advance // step))
            epoch, batches = divmod(progress.total.processed, per_pass)
        return order.counts(epoch, min(batches * step, order.advance))

    return given
