"""Whether what is frozen stands still, and what trains moves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_vlm.digest import digests
from lit_vlm.part_tensors import frozen_buffers, moved_by_itself, parameters_by_part


@dataclass(frozen=True)
class Findings:
    """What became of a model in a few steps: names of tensors, by part.

    Attributes:
        moved_though_frozen: frozen parameters and statistics whose bits have changed.
        without_gradient: trainable parameters of parts that no gradient reached.
        not_moved: trainable parameters of parts that had gradients and are what they were.
        rate_was_zero: those of the latter parts whose learning rate was 0 all the time.
        in_no_optimizer: those of the latter parts that no optimizer has.
        zero_gradients: trainable parameters of parts whose gradients were all zero.
        idle: trainable parameters without a gradient, in parts that had some.
        too_coarse: parameters in 16 bits that had a gradient and are what they were.
    """

    moved_though_frozen: dict[str, list[str]] = field(default_factory=dict)
    without_gradient: dict[str, list[str]] = field(default_factory=dict)
    not_moved: dict[str, list[str]] = field(default_factory=dict)
    rate_was_zero: set[str] = field(default_factory=set)
    in_no_optimizer: set[str] = field(default_factory=set)
    zero_gradients: dict[str, list[str]] = field(default_factory=dict)
    idle: dict[str, list[str]] = field(default_factory=dict)
    too_coarse: dict[str, list[str]] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether something frozen moved, or a part that should train did not."""
        return bool(self.moved_though_frozen or self.without_gradient or self.not_moved)


class MovementCheck:
    """Note what a model is now, watch a few steps, and tell what moved.

    Args:
        model: the model, with what is frozen frozen already.
        optimizers: those that train it.
    """

    def __init__(self, model: nn.Module, optimizers: list[Optimizer]) -> None:
        self.steps = 0
        self._optimizers = optimizers
        self._parts = parameters_by_part(model)
        named = {name: p for own in self._parts.values() for name, p in own.items()}
        self._trained = {name: p for name, p in named.items() if p.requires_grad}
        self._frozen: dict[str, Tensor] = {n: p for n, p in named.items() if not p.requires_grad}
        self._frozen |= dict(frozen_buffers(model))
        for name in moved_by_itself(model, self._frozen):
            del self._frozen[name]
        self._before = self._digests()
        self._reached: set[str] = set()
        self._signalled: set[str] = set()
        self._stepped: set[int] = set()
        self._rated: set[int] = set()

    def see_step(self, optimizer: Optimizer, norms: Mapping[str, float]) -> None:
        """Take note of an optimizer's step, which is about to happen.

        Args:
            optimizer: which.
            norms: norms of the gradients that there are, by the parameters' names.
        """
        self.steps += 1
        self._reached |= norms.keys()
        self._signalled |= {name for name, norm in norms.items() if norm != 0}
        for group in optimizer.param_groups:
            ids = {id(parameter) for parameter in group["params"]}
            self._stepped |= ids
            self._rated |= ids if float(group["lr"]) > 0 else set()

    def findings(self, largest_over_ranks: Callable[[Tensor], Tensor]) -> Findings:
        """Tell what has become of each tensor since.

        Args:
            largest_over_ranks: returns the largest of a tensor's values on all ranks, so that all
                of them find the same.
        """
        names = list(self._before)
        if not names:
            return Findings()
        now = self._digests()
        flags = [
            [now[name] != self._before[name], name in self._reached, name in self._signalled]
            for name in names
        ]
        device = next(iter([*self._trained.values(), *self._frozen.values()])).device
        agreed = largest_over_ranks(torch.tensor(flags, dtype=torch.float, device=device))
        moved, reached, signalled = (
            {name for name, flag in zip(names, column, strict=True) if flag}
            for column in agreed.T.tolist()
        )
        return self._sort(moved, reached, signalled)

    def _digests(self) -> dict[str, int]:
        tensors = {**self._frozen, **self._trained}
        return dict(zip(tensors, digests(tensors.values()), strict=True))

    def _sort(self, moved: set[str], reached: set[str], signalled: set[str]) -> Findings:
        found = Findings()
        for name, tensor in self._frozen.items():
            if name in moved and not tensor.requires_grad:  # it may have thawed since
                found.moved_though_frozen.setdefault(self._part_of(name), []).append(name)
        owned = {id(p) for o in self._optimizers for g in o.param_groups for p in g["params"]}
        for part, own in self._parts.items():
            names = [name for name in own if self._counts(name, owned)]
            if not names:
                continue
            idle = [name for name in names if name not in reached]
            if len(idle) == len(names):
                found.without_gradient[part] = names
            elif not signalled.intersection(names):
                found.zero_gradients[part] = names
            elif not moved.intersection(names):
                self._judge_standing(found, part, {n: own[n] for n in names}, owned)
            else:
                _note(found.idle, part, idle)
                still = [name for name in names if name in signalled - moved]
                _note(found.too_coarse, part, [n for n in still if own[n].itemsize == 2])
        return found

    def _judge_standing(
        self, found: Findings, part: str, own: dict[str, nn.Parameter], owned: set[int]
    ) -> None:
        ids = {id(parameter) for parameter in own.values()}
        if ids & owned and not ids & self._rated:
            if self.steps == 1:
                return  # a warm-up may begin at 0
            found.rate_was_zero.add(part)
        if not ids & owned:
            found.in_no_optimizer.add(part)
        found.not_moved[part] = list(own)

    def _counts(self, name: str, owned: set[int]) -> bool:
        # Not what was frozen since, nor what belongs to an optimizer that made no step.
        parameter = self._trained.get(name)
        if parameter is None or not parameter.requires_grad:
            return False
        return id(parameter) in self._stepped or id(parameter) not in owned

    def _part_of(self, name: str) -> str:
        inside = (part for part, own in self._parts.items() if name in own)
        return next(inside, name.partition(".")[0])


def _note(found: dict[str, list[str]], part: str, names: list[str]) -> None:
    if names:
        found[part] = names
