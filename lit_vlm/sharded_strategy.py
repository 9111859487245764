"""FSDP2 for models whose parts freeze and thaw."""

import os
import shutil
from collections.abc import Mapping
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.strategies import (
    FSDPStrategy,
    ModelParallelStrategy,
    Strategy,
    StrategyRegistry,
)
from torch import Tensor, nn
from torch.distributed.constants import default_pg_timeout
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from lit_vlm.checkpoints import is_sharded_checkpoint
from lit_vlm.sharded_checkpoint import put_in_place, read_optimizers
from lit_vlm.sharding import reshard


class StagedModelParallel(ModelParallelStrategy):
    """Split weights, gradients and optimizer state between processes (FSDP2).

    Parts that freeze and thaw need the optimizer's state as it was. Lightning's own
    ``ModelParallelStrategy`` drops that of parameters which are frozen when a checkpoint is loaded
    (https://github.com/pytorch/pytorch/issues/192202), refuses parameters that train and have none
    yet, and counts a step where there is none at all when a checkpoint is saved. This strategy
    keeps the states as one process would, in the same files.

    Args:
        data_parallel_size: processes that share the data; all of them by default.
        tensor_parallel_size: processes that share single operations, for models that can.
        save_distributed_checkpoint: write a folder, to which each process adds its own shards,
            instead of a file that one process and any strategy can read. The file is collected
            in the main memory of one process.
        process_group_backend: see ``ModelParallelStrategy``.
        timeout: see ``ModelParallelStrategy``.
    """

    def __init__(
        self,
        data_parallel_size: Literal["auto"] | int = "auto",
        tensor_parallel_size: int = 1,
        save_distributed_checkpoint: bool = False,
        process_group_backend: str | None = None,
        timeout: timedelta | None = default_pg_timeout,
    ) -> None:
        super().__init__(
            data_parallel_size,
            tensor_parallel_size,
            save_distributed_checkpoint,
            process_group_backend,
            timeout,
        )

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether the trainer asks for the optimizers' states apart from the weights."""
        return True

    def setup_environment(self) -> None:
        """Find out how many processes share the data."""
        if self._data_parallel_size == "auto":
            assert isinstance(self._tensor_parallel_size, int)
            processes = self.num_nodes * self.num_processes
            self._data_parallel_size = processes // self._tensor_parallel_size
        super().setup_environment()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return an optimizer's state; whole, it is that of one process, and on rank 0 only."""
        state = getattr(optimizer, "_optimizer", optimizer).state_dict()
        if self._save_distributed_checkpoint:
            names = {parameter: name for name, parameter in self._owners().items()}
            return _by_name(state, [names[parameter] for parameter in _parameters(optimizer)])
        whole = {
            place: {key: _whole(value) for key, value in values.items()}
            for place, values in state["state"].items()
        }
        return {**state, "state": whole} if self.is_global_zero else {}

    def load_checkpoint(
        self, checkpoint_path: str | os.PathLike[str], weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load the weights; return the rest, in which shards of optimizers' states are."""
        path = Path(self.broadcast(checkpoint_path))
        optimizers, self.optimizers = self.optimizers, []
        try:
            checkpoint = super().load_checkpoint(path, weights_only)
        finally:
            self.optimizers = optimizers
        if is_sharded_checkpoint(path) and self._fits:
            states = read_optimizers(path, self._owners())
            if states:  # else the trainer says that there are none
                checkpoint["optimizer_states"] = states
        return checkpoint

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give the optimizers their states, of frozen parameters too."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            places = chain.from_iterable(group["params"] for group in saved["param_groups"])
            # The optimizer itself refuses another number of parameters than its own.
            owners = dict(zip(places, _parameters(optimizer), strict=False))
            state = {
                place: {key: _split_like(owners[place], value) for key, value in values.items()}
                for place, values in saved["state"].items()
                if place in owners
            }
            optimizer.load_state_dict({**saved, "state": state})

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        filepath: str | os.PathLike[str],
        storage_options: Any = None,
    ) -> None:
        """Write a checkpoint; a folder takes its place once all of it is written."""
        target = Path(self.broadcast(filepath))
        if not self._save_distributed_checkpoint:
            if self.is_global_zero and is_sharded_checkpoint(target):
                shutil.rmtree(target)
            self.barrier()
            super().save_checkpoint(checkpoint, target, storage_options)
            return
        beside = target.with_name(f".{target.name}.part")
        if self.is_global_zero:
            shutil.rmtree(beside, ignore_errors=True)
        self.barrier()
        super().save_checkpoint(checkpoint, beside, storage_options)
        self.barrier()
        if self.is_global_zero:
            put_in_place(beside, target)
        self.barrier()

    @property
    def _fits(self) -> bool:
        assert self.lightning_module is not None
        return self.lightning_module.trainer.state.fn == "fit"

    def _owners(self) -> dict[str, nn.Parameter]:
        """Return the parameters that optimizers know, by name."""
        assert self.model is not None
        reshard(self.model)
        return dict(self.model.named_parameters())


def reads_shards(strategy: Strategy) -> bool:
    """Whether a strategy can load a checkpoint that is a folder of shards."""
    return isinstance(strategy, ModelParallelStrategy | FSDPStrategy)


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _by_name(state: dict[str, Any], names: list[str]) -> dict[str, Any]:
    groups = [{**g, "params": [names[i] for i in g["params"]]} for g in state["param_groups"]]
    return {
        "state": {names[place]: values for place, values in state["state"].items()},
        "param_groups": groups,
    }


def _whole(value: Any) -> Any:
    value = value.full_tensor() if isinstance(value, DTensor) else value
    return value.cpu() if isinstance(value, Tensor) else value


def _split_like(parameter: Tensor, value: Any) -> Any:
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    if isinstance(value, DTensor) or not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)


StrategyRegistry.register(
    "fsdp2", StagedModelParallel, description="FSDP2, with parts that freeze and thaw"
)
