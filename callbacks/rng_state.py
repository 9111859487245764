"""Random numbers that go on where a run stopped."""

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn


class RNGState(Callback):
    """Keep every rank's random state in the checkpoint, and take it back on resume.

    Lightning keeps none, so a resumed run draws other dropout masks than the run it continues.
    """

    def __init__(self) -> None:
        self._to_restore: dict[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of all ranks."""
        states: list[Any] = [_get()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, _get())
        checkpoint["rng_states"] = states

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember this rank's state until training goes on."""
        states = checkpoint.get("rng_states", [])
        if len(states) == trainer.world_size:
            self._to_restore = states[trainer.global_rank]
        elif states and trainer.state.fn == "fit":
            rank_zero_warn(
                f"The checkpoint holds random states of {len(states)} processes, this run has "
                f"{trainer.world_size}: dropout and sampling will differ from the run it continues."
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore the state, behind everything that start-up drew."""
        if self._to_restore is not None:
            _set(self._to_restore)
            self._to_restore = None


def _get() -> dict[str, Any]:
    version, internal, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "python": [version, list(internal), gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *map(float, rest)],
    }


def _set(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([device.cpu() for device in state["cuda"]])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    words = keys.cpu().numpy().astype(np.uint32)
    np.random.set_state((kind, words, int(position), int(has_gauss), cached))
