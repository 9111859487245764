"""SIGTERM in a run of several processes."""

from typing import Any

import torch
from lightning import Trainer


class StopSignal:
    """Let all processes of a run stop behind the same batch when one is told to by SIGTERM.

    Lightning's own handler lets the processes talk at once, in the midst of other talk: the run
    hangs, or ends without its last state.
    """

    def __init__(self) -> None:
        self._told = False
        self._trainer: Trainer | None = None

    def listen(self, trainer: Trainer) -> None:
        """Take the handler's place, before the trainer registers it."""
        self._told, self._trainer = False, trainer
        connector: Any = trainer._signal_connector
        connector._sigterm_notifier_fn = self._note

    def agree(self, trainer: Trainer) -> None:
        """Stop behind this batch's optimizer step, on all ranks, if one was told to.

        Ranks meet here at every batch.
        """
        if trainer.world_size == 1 and not self._told:
            return
        told = torch.tensor(float(self._told), device=trainer.strategy.root_device)
        told = trainer.strategy.reduce(told, reduce_op="max")
        # Not in the midst of accumulated batches, whose gradients no checkpoint holds.
        if told.item() and not trainer.fit_loop._should_accumulate():
            trainer._signal_connector.received_sigterm = True

    def _note(self, signum: Any, frame: Any) -> None:
        assert self._trainer is not None
        if not self._told and self._trainer.strategy.launcher is not None:
            self._trainer.strategy.launcher.kill(signum)
        self._told = True
