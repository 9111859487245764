"""Writing down which pictures of a run could not be read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from lit_vlm.data.image_batches import SkippedPicture
from lit_vlm.data.ledger import SkipLedger


class PassedOver:
    """Keep a ledger for each split: ``skipped-SPLIT.jsonl`` in the run's folder.

    Without a trainer there is no such folder, and nothing is written.

    Args:
        datamodule: whose trainer says where the folder is.
    """

    def __init__(self, datamodule: Any) -> None:
        self.datamodule = datamodule
        self._ledgers: dict[str, SkipLedger] = {}

    def record(self, split: str, sources: Sequence[Any], skipped: Sequence[SkippedPicture]) -> None:
        """Write pictures of a split down, each once.

        Raises:
            BadSampleError: if a source's ``max_skipped`` is passed.
        """
        if self.datamodule.trainer is None:
            return
        if split not in self._ledgers:
            path = Path(self.datamodule.trainer.default_root_dir) / f"skipped-{split}.jsonl"
            self._ledgers[split] = SkipLedger(path, sources)
        self._ledgers[split].record(skipped)

    def close(self) -> None:
        """Say how many there were, and where they are named."""
        for ledger in self._ledgers.values():
            if ledger.total:
                rank_zero_warn(
                    f"{ledger.total} pictures could not be read and were passed over; "
                    f"{ledger.path} names them and why."
                )
        self._ledgers = {}
