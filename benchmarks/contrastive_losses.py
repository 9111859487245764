"""Measure the sigmoid loss against open_clip's, and gradient caching against the plain step.

Losses are measured on several processes, each with its share of the pairs, forward and backward,
and must agree in value and gradient. The contestants take turns, so that a busy computer slows all
of them alike. Memory is the most bytes of tensors alive at once on the first process, the inputs
left out.

    python benchmarks/contrastive_losses.py
"""

import argparse
import statistics
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.loss import SigLipLoss
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.functional import normalize
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lit_vlm.pretraining import sigmoid_contrastive_loss, softmax_contrastive_loss
from lit_vlm.pretraining.gradient_caching import recomputed

Step = Callable[[], list[Tensor]]
MEBI = 2**20


class LiveBytes(TorchDispatchMode):
    """Count the bytes of tensors alive, of those made while this is on."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it made."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage() not in self._known:
                storage = tensor.untyped_storage()
                self._known.add(storage)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._forget, storage.nbytes())
        return result

    def _forget(self, size: int) -> None:
        self.live -= size


class Towers(nn.Module):
    """Two transformers, whose vectors a loss compares."""

    def __init__(self, width: int, depth: int, micro_batch_size: int | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = (
            nn.Sequential(
                *(
                    nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True)
                    for _ in range(depth)
                )
            )
            for _ in range(2)
        )
        self.micro_batch_size = micro_batch_size

    def step(self, images: Tensor, texts: Tensor) -> list[Tensor]:
        """Return the loss and the gradients."""
        self.zero_grad()
        vectors = [
            recomputed(lambda rows, tower=tower: _pooled(tower(rows)), rows, self.micro_batch_size)
            for tower, rows in ((self.image, images), (self.text, texts))
        ]
        loss = softmax_contrastive_loss(*vectors, torch.tensor(10.0))
        loss.backward()
        return [loss.detach(), *(p.grad for p in self.parameters() if p.grad is not None)]


def _pooled(states: Tensor) -> Tensor:
    return normalize(states.mean(dim=1), dim=1)


def loss_steps(pairs: int, width: int, chunk_size: int) -> dict[str, Step]:
    """Return what to do, by contestant, on this process's share of the pairs."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(0)
    images, texts = (
        normalize(torch.randn(pairs, width), dim=1).chunk(world)[rank].clone() for _ in range(2)
    )
    leaves = [images, texts, torch.tensor(10.0), torch.tensor(-10.0)]
    leaves = [leaf.requires_grad_() for leaf in leaves]

    def step(loss: Callable[..., Tensor]) -> list[Tensor]:
        value = loss(*leaves)
        return [value.detach(), *torch.autograd.grad(value, leaves)]

    theirs = SigLipLoss(rank=rank, world_size=world)
    in_chunks = f"lit-vlm, chunk_size={chunk_size}"
    return {
        "open_clip": lambda: step(theirs),
        "lit-vlm": lambda: step(sigmoid_contrastive_loss),
        in_chunks: lambda: step(lambda *now: sigmoid_contrastive_loss(*now, chunk_size=chunk_size)),
    }


def caching_steps(batch_size: int, width: int, micro_batch_size: int) -> dict[str, Step]:
    """Return the plain step and the one in micro-batches, of the same weights."""
    images, texts = torch.randn(2, batch_size, 32, width)
    names = {"plain": None, f"micro_batch_size={micro_batch_size}": micro_batch_size}
    towers = {name: Towers(width, 4, size) for name, size in names.items()}
    return {name: lambda now=now: now.step(images, texts) for name, now in towers.items()}


def race(title: str, steps: dict[str, Step], repeats: int, speaks: bool) -> None:
    """Run all steps in turn and print their medians over those of the first."""
    memory, results = {}, []
    for name, step in steps.items():
        with LiveBytes() as count:
            results.append(step())
        memory[name] = count.peak
    for result in results[1:]:
        assert_close(result, results[0], rtol=1e-4, atol=1e-5)
    results.clear()
    laps: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            laps[name].append(time.perf_counter() - begin)
    if speaks:
        report(title, laps, memory)


def report(title: str, laps: dict[str, list[float]], memory: dict[str, int]) -> None:
    """Print a table."""
    first = next(iter(laps))
    print(f"\n{title}\n\n| | ms a step | time over {first}'s | MiB | memory over {first}'s |")
    print("|---|---|---|---|---|")
    for name, times in laps.items():
        ratios = [one / other for one, other in zip(times, laps[first], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        share = memory[name] / memory[first]
        print(
            f"| {name} | {1000 * statistics.median(times):.1f} | {spread} | "
            f"{memory[name] / MEBI:.1f} | {share:.2f} |",
            flush=True,
        )


def work(rank: int, options: argparse.Namespace, folder: str) -> None:
    """Be one of the processes."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(max(1, options.threads // options.ranks))
    place: dict[str, Any] = {"init_method": f"file://{Path(folder) / 'meeting'}", "rank": rank}
    distributed.init_process_group("gloo", world_size=options.ranks, **place)
    steps = loss_steps(options.pairs, options.width, options.chunk_size)
    title = f"Sigmoid loss, {options.pairs} pairs on {options.ranks} processes"
    race(title, steps, options.repeats, rank == 0)
    distributed.destroy_process_group()


def main() -> None:
    """Run both races and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=4096, help="of all processes")
    parser.add_argument("--width", type=int, default=256, help="of vectors and of the towers")
    parser.add_argument("--ranks", type=int, default=2, help="processes of the losses")
    parser.add_argument("--chunk-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=128, help="for gradient caching")
    parser.add_argument("--micro-batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    print(f"torch {torch.__version__}, open_clip {open_clip.__version__}, float32 on the CPU")
    with tempfile.TemporaryDirectory() as folder:
        start_processes(work, (options, folder), nprocs=options.ranks, start_method="spawn")
    torch.set_num_threads(options.threads)
    steps = caching_steps(options.batch_size, options.width, options.micro_batch_size)
    race(f"Gradient caching, {options.batch_size} pairs", steps, options.repeats, True)


if __name__ == "__main__":
    main()
