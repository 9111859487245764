"""The average of a run's last weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_vlm.checkpoint_io import AtomicCheckpointIO
from lit_vlm.checkpoints import read_any_checkpoint


class RecentWeights:
    """Keep the newest few states of a run's weights, in a ring of files ``recent-N.ckpt``.

    Args:
        folder: where the files are.
        size: how many to keep.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size

    def steps(self) -> dict[Path, int]:
        """Return the files, the oldest state first, and the optimizer steps they were made at."""
        steps = {path: _step(path) for path in self.folder.glob("recent-*.ckpt")}
        return dict(sorted(steps.items(), key=lambda item: item[1]))

    def begin(self, step: int) -> None:
        """Remove what a run that begins or goes on at a step did not leave."""
        for path, made in self.steps().items():
            if made > step or path not in self._places():
                path.unlink()

    def keep(self, weights: Mapping[str, Any], step: int) -> None:
        """Write a state, in place of the oldest one once there are enough."""
        steps = self.steps()
        again = (path for path, made in steps.items() if made == step)
        free = (path for path in self._places() if path not in steps)
        place = next(again, None) or next(free, None) or next(iter(steps))
        content = {"state_dict": dict(weights), "global_step": step}
        AtomicCheckpointIO().save_checkpoint(content, place)

    def _places(self) -> list[Path]:
        return [self.folder / f"recent-{place}.ckpt" for place in range(self.size)]


def average_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Average states of a model, given the oldest first; integers are the newest's.

    Source:
        SWA (Izmailov et al., 2018), https://arxiv.org/abs/1803.05407; statistics of BatchNorm are
        averaged like weights, not measured anew.

    Example:
        >>> old = {"w": torch.tensor([1.0]), "steps": torch.tensor(1)}
        >>> new = {"w": torch.tensor([2.0]), "steps": torch.tensor(2)}
        >>> average_weights([old, new])
        {'w': tensor([1.5000]), 'steps': tensor(2)}
    """
    averaged: dict[str, Tensor] = {}
    for name, newest in states[-1].items():
        averaged[name] = newest
        if newest.is_floating_point():
            total = sum(state[name].double() for state in states)
            averaged[name] = torch.as_tensor(total / len(states)).to(newest.dtype)
    return averaged


def write_average(recent: RecentWeights, last: Path, target: Path) -> list[int]:
    """Write a whole checkpoint: the last one's, with the average of the recent weights.

    States of other shapes, such as those from before the images grew, are left out.

    Returns:
        The steps that were averaged; fewer than two leave no file.
    """
    content = read_any_checkpoint(last)
    shapes = _shapes(content["state_dict"])
    states: dict[int, dict[str, Tensor]] = {}
    for path, step in recent.steps().items():
        weights = read_any_checkpoint(path)["state_dict"]
        if _shapes(weights) == shapes:
            states[step] = weights
    if len(states) < 2:
        return []
    content["state_dict"] = average_weights(list(states.values()))
    AtomicCheckpointIO().save_checkpoint(content, target)
    return list(states)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def _step(path: Path) -> int:
    return int(read_any_checkpoint(path)["global_step"])
