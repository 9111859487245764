"""What of a model is split between processes (FSDP2), and how it is run then."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method


def shard(module: nn.Module, mesh: DeviceMesh | None, methods: Sequence[str] = ()) -> None:
    """Split a model's weights between processes, block by block; call it in ``configure_model``.

    Blocks are what stands in a list of modules: each is gathered when it runs, and only then.
    The rest (embeddings, head, connectors) is gathered for the whole of a step. Doing it twice
    changes nothing, and without a mesh nothing is done.

    Args:
        module: the whole model. Its weights may be used inside ``forward`` and ``methods`` only.
        mesh: the LightningModule's ``device_mesh``; None unless the strategy shards.
        methods: names of methods that run the model without gradients, as ``forward`` does with.
            All processes must call them equally often.

    Raises:
        ValueError: if the mesh splits single operations too (tensor parallelism).
    """
    if mesh is None or is_sharded(module):
        return
    if mesh["tensor_parallel"].size() > 1:
        raise ValueError(
            f"{type(module).__name__}: the strategy must not split operations between processes, "
            f"got tensor_parallel_size={mesh['tensor_parallel'].size()}. Use --trainer.strategy "
            f"fsdp2, or ModelParallelStrategy with tensor_parallel_size 1."
        )
    for block in _blocks(module):
        fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(module, mesh=mesh["data_parallel"])
    for name in methods:
        _gather_for(module, name)


def is_sharded(module: nn.Module) -> bool:
    """Whether the module or anything in it is split between processes."""
    return any(isinstance(part, FSDPModule) for part in module.modules())


def reshard(module: nn.Module) -> None:
    """Give up what was gathered of a sharded module; its parameters are the optimizer's again."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    lists = (nn.ModuleList, nn.Sequential)
    for child in module.children():
        whole_part = isinstance(child, (*lists, LightningModule))
        if not isinstance(module, lists) or whole_part:
            yield from _blocks(child)
        elif any(True for _ in child.children()) and any(True for _ in child.parameters()):
            yield child


def _gather_for(module: Any, name: str) -> None:
    register_fsdp_forward_method(module, name)
    gathering = getattr(module, name)

    @functools.wraps(gathering)
    def run(*args: Any, **kwargs: Any) -> Any:
        # Weights that were first gathered in inference mode could not be trained afterwards.
        with torch.inference_mode(False), torch.no_grad():
            result = gathering(*args, **kwargs)
        module.reshard()  # or callbacks would find other parameters than the optimizer's
        return result

    setattr(module, name, run)
