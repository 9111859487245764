"""In what proportions a run's sources are mixed: said, and kept in the run folder."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lit_vlm.data.mixture import Mixture
from lit_vlm.data.mixture_order import MixtureOrder
from lit_vlm.data.mixture_record import mixture_record, mixture_table
from lit_vlm.data.sampling import TrainingOrder
from lit_vlm.data.stage_batches import StagedPass
from lit_vlm.whole_file import whole_file

RECORD = "mixture.json"


class MixtureReport:
    """Print each mixture of a run once, and write how many rows of each source were read.

    What the run folder's ``mixture.json`` holds of the stages before is kept by a run that goes on.
    Of several ranks the first alone does this.
    """

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []
        self._delivered: Callable[[], list[int]] | None = None
        self._folder: Path | None = None

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
        given = None
        if isinstance(order, MixtureOrder):
            given = rows_given(trainer, order, staged, step)
        record = mixture_record(staged and staged.name, mixture, order, samples)
        self.begin(record, given, goes_on=trainer.global_step > 0)

    def begin(
        self, record: dict[str, Any], delivered: Callable[[], list[int]] | None, goes_on: bool
    ) -> None:
        """Print what is new, and write.

        Args:
            record: see ``mixture_record``.
            delivered: returns the rows of each source that the mixture has given by now; None if
                that is not known.
            goes_on: whether the run has begun before.
        """
        known = bool(self._records) and _asked(self._records[-1]) == _asked(record)
        if not self._records and goes_on:
            self._records = self._read()
        if not known:
            Console().print(mixture_table(record))
            kept = [old for old in self._records if old["stage"] != record["stage"]]
            self._records = [*kept, record]
        self._delivered = delivered
        self._write()

    def close(self) -> None:
        """Write what was read by now, for the last time if no other pass begins."""
        self._write()
        self._delivered = None

    def _write(self) -> None:
        if not self._records or self._folder is None:
            return
        if self._delivered is not None:
            now = self._records[-1]["sources"]
            for source, rows in zip(now, self._delivered(), strict=True):
                source["delivered_rows"] = rows
        with whole_file(self._folder / RECORD) as file:
            json.dump({"mixtures": self._records}, file, indent=2)
            file.write("\n")

    def _read(self) -> list[dict[str, Any]]:
        path = None if self._folder is None else self._folder / RECORD
        if path is None or not path.is_file():
            return []
        return list(json.loads(path.read_text(encoding="utf-8"))["mixtures"])


def _asked(record: dict[str, Any]) -> dict[str, Any]:
    sources = [
        {key: value for key, value in source.items() if key != "delivered_rows"}
        for source in record["sources"]
    ]
    return {**record, "sources": sources}


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
