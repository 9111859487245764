"""The last state of a run or the best one, by data that chose neither."""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher

from lit_vlm.averaging import RecentWeights, write_average
from lit_vlm.callbacks.best_checkpoint import BestCheckpoint
from lit_vlm.callbacks.last_checkpoint import LastCheckpoint
from lit_vlm.candidate_scoring import score_candidates
from lit_vlm.run_folder import SELECTED, keep_as, remove
from lit_vlm.selection import Bootstrap, Candidate, decide, read_candidate
from lit_vlm.selection_report import RECORD, print_selection, selection_record, write_record
from lit_vlm.splits import has_split


class CheckpointSelection(Callback):
    """Choose between the last and the best checkpoint of a run, once it has ended.

    ``best.ckpt`` is the best on the data that chose it, which flatters it; and in use the last
    state is often better than the one of the lowest validation loss. So both are scored on a split
    that chose neither. Best is selected only if the interval of the difference says that it is
    better; a tie keeps last. ``checkpoints.json`` in the run folder has the scores and the reason,
    ``checkpoints/selected.ckpt`` is the choice. ``lit-vlm fit`` calls ``select`` when training has
    ended; in Python, call it after ``trainer.fit``.

    The module's ``validation_step`` returns a dictionary with ``scores``, one number per item,
    where more is better; optionally ``weights`` (a set's score is the sum of scores over the sum of
    weights; 1 if not given), ``index`` (ids: an item that padding or ranks repeat counts once) and
    ``groups`` (for each item a number or text, or several: items that share one are resampled
    together, e.g. questions about one image). If the module has a context manager ``scoring()``, it
    is entered meanwhile. Without scores there is no interval, and last is kept.

    Args:
        split: name of the split, whose loader is the data module's ``SPLIT_dataloader``, e.g.
            ``test``; None for ``selection`` if the data module has it, and no selection otherwise.
        average_last: also try the average of the weights at the last so many validation ends, at
            least 2; it must beat the winner. 0 for none.
        confidence: of the interval, below 1.
        resamples: of the bootstrap, over groups of items.
        seed: chooses the resamples, and the random numbers of every scoring.

    Raises:
        ValueError: if an argument is out of range; when ``fit`` starts, if the split or one of the
            two checkpoint callbacks is missing, or the strategy does not allow it.

    Source:
        On the last state: DeepSpeed-VisualChat (Yao et al., 2023), https://arxiv.org/abs/2309.14327.
    """

    def __init__(
        self,
        split: str | None = None,
        average_last: int = 0,
        confidence: float = 0.95,
        resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        if split in ("train", "val"):
            raise ValueError(
                f"CheckpointSelection: split must be one that chose neither checkpoint, got "
                f"{split!r}. Hold one out: --data.selection 0.05."
            )
        if average_last < 0 or average_last == 1:
            raise ValueError(
                f"CheckpointSelection: average_last must be 0 or at least 2, got {average_last}."
            )
        if not 0 < confidence < 1 or resamples < 1:
            raise ValueError(
                f"CheckpointSelection: confidence must be between 0 and 1 and resamples positive, "
                f"got {confidence} and {resamples}."
            )
        self.split = split
        self.average_last = average_last
        self.bootstrap = Bootstrap(confidence, resamples, seed)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before training what is needed after it."""
        if stage != "fit":
            return
        datamodule: Any = getattr(trainer, "datamodule", None)
        if self._active_split(datamodule) is None:
            if self.average_last:
                raise ValueError(
                    f"CheckpointSelection: average_last must have data to prove itself on, got "
                    f"{self.average_last} without a split. Hold one out: --data.selection 0.05."
                )
            return
        for kind in (BestCheckpoint, LastCheckpoint):
            _callback(trainer, kind)
        self._check_strategy(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what an earlier run in this folder selected: it is no choice of this run's."""
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        (Path(trainer.default_root_dir) / RECORD).unlink(missing_ok=True)
        folder = _checkpoints(trainer)
        if folder is not None:
            for name in (SELECTED, "average"):
                remove(folder / f"{name}.ckpt")
            RecentWeights(folder, self.average_last).begin(trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights for the average."""
        trying_out = trainer.sanity_checking or getattr(trainer, "fast_dev_run", False)
        if not self.average_last or trying_out or trainer.state.fn != "fit":
            return
        weights = trainer.strategy.lightning_module_state_dict()  # on all ranks: some gather it
        if trainer.is_global_zero and (folder := _checkpoints(trainer)) is not None:
            RecentWeights(folder, self.average_last).keep(weights, trainer.global_step)

    def select(
        self,
        trainer: Trainer,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
    ) -> dict[str, Any]:
        """Score, choose, write the choice down and print it; call it after ``trainer.fit``.

        All processes must call it. It leaves the model with the weights of ``last.ckpt``.

        Args:
            trainer: which has fitted.
            model: the model it fitted.
            datamodule: which has the split; None for the trainer's.

        Returns:
            What ``checkpoints.json`` holds; empty if there is no split, or the run was interrupted
            or only tried out.
        """
        data: Any = datamodule or getattr(trainer, "datamodule", None)
        split = self._active_split(data)
        cut_short = trainer.interrupted or getattr(trainer, "fast_dev_run", False)
        if split is None or cut_short:
            return {}
        # The paths are taken now: scoring loads checkpoints.
        best = _callback(trainer, BestCheckpoint)
        last = _callback(trainer, LastCheckpoint).best_model_path
        if not last:
            return {}  # it made no step
        candidates, missing = self._candidates(trainer, best.best_model_path, last)
        if len(candidates) > 1:
            candidates = score_candidates(
                candidates, trainer, model, data, split, best.monitor, self.bootstrap.seed
            )
        record = {"split": split, "monitor": best.monitor, "mode": best.mode}
        record |= asdict(self.bootstrap)
        record |= selection_record(candidates, decide(candidates, self.bootstrap), missing)
        self._keep(trainer, record)
        return record

    def _candidates(
        self, trainer: Trainer, best: str, last: str
    ) -> tuple[dict[str, Candidate], list[str]]:
        """Return what there is to choose from, last at the end, and why others are not in it."""
        root = Path(trainer.default_root_dir).absolute()
        newest = read_candidate("last", Path(last), root)
        candidates: dict[str, Candidate] = {}
        missing: list[str] = []
        if not best:
            missing.append("there is no best checkpoint: no validation chose one")
        elif (peak := read_candidate("best", Path(best), root)).step == newest.step is not None:
            missing.append(f"best and last are the same state, that of step {newest.step:,}")
        else:
            candidates["best"] = peak
        average = self._average(trainer, newest) if self.average_last else None
        if average is not None:
            candidates = {"average": average, **candidates}
        elif self.average_last:
            missing.append("there are not two states of the same shapes to average")
        return {**candidates, "last": newest}, missing

    def _average(self, trainer: Trainer, last: Candidate) -> Candidate | None:
        path = Path(trainer.default_root_dir, last.path)
        target = path.with_name("average.ckpt")
        steps: list[int] = []
        if trainer.is_global_zero:
            steps = write_average(RecentWeights(path.parent, self.average_last), path, target)
        steps = trainer.strategy.broadcast(steps)
        if not steps:
            return None
        made = read_candidate("average", target, Path(trainer.default_root_dir).absolute())
        return replace(made, averaged_steps=tuple(steps))

    def _keep(self, trainer: Trainer, record: dict[str, Any]) -> None:
        root = Path(trainer.default_root_dir)
        chosen = root / record["candidates"][record["choice"]]["path"]
        selected = chosen.with_name(f"{SELECTED}{chosen.suffix}")
        record["selected"] = os.path.relpath(selected, root)
        if trainer.is_global_zero:
            keep_as(chosen, selected)
            write_record(root / RECORD, record)
            print_selection(record)
        trainer.strategy.barrier()

    def _active_split(self, datamodule: LightningDataModule | None) -> str | None:
        split = self.split or "selection"
        if has_split(datamodule, split):
            return split
        if self.split is None:
            return None
        raise ValueError(
            f"CheckpointSelection: split must be one that the data module has, got {split!r}, "
            f"for which {type(datamodule).__name__} has no data. Give it a source, or a method "
            f"{split}_dataloader."
        )

    def _check_strategy(self, trainer: Trainer) -> None:
        strategy: Any = trainer.strategy
        if isinstance(strategy.launcher, _MultiProcessingLauncher):
            raise ValueError(
                "CheckpointSelection: the processes must outlive fit, got a strategy that spawns "
                "or forks them. Use strategy: ddp."
            )
        sharded = getattr(strategy, "_save_distributed_checkpoint", False)
        sharded = sharded or getattr(strategy, "_state_dict_type", "full") == "sharded"
        if self.average_last and (sharded or hasattr(strategy, "deepspeed_engine")):
            raise ValueError(
                f"CheckpointSelection: average_last must have whole checkpoints, got "
                f"{type(strategy).__name__}, which shards them. Set average_last: 0."
            )


def _callback(trainer: Any, kind: type[Any]) -> Any:
    found = next((c for c in trainer.callbacks if isinstance(c, kind)), None)
    if found is None:
        raise ValueError(
            f"CheckpointSelection: {kind.__name__} must be among the trainer's callbacks, got "
            f"none. Add it."
        )
    return found


def _checkpoints(trainer: Any) -> Path | None:
    """Return the folder of the last checkpoint, if the run keeps one."""
    last = next((c for c in trainer.callbacks if isinstance(c, LastCheckpoint)), None)
    return None if last is None or last.dirpath is None else Path(last.dirpath)
