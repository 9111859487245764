"""Smaller learning rates for what has learned before."""

from collections.abc import Callable, Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from lit_vlm.made_optimizers import optimizers_in, schedulers_in
from lit_vlm.module_hooks import unwrap_hook, wrap_hook
from lit_vlm.optimizer_groups import (
    check_coverage,
    refine_made,
    refining_groups,
    scale_rates,
    unscaled_rates,
)
from lit_vlm.part_names import is_within
from lit_vlm.part_rates import ParameterRate, PartLR, parameter_rates
from lit_vlm.trainable import TrainableModule


class PretrainedLR(Callback):
    """Multiply the learning rates of parts of any LightningModule, layer by layer if asked.

    Works with every optimizer and schedule of automatic optimization: parameter groups are split
    as the optimizer is made, and multipliers are applied after the schedule, so that a group's
    rate is ``multiplier * lr(t)`` at every step, and is what the group and the log say. The rates
    that a scheduler tells of itself (``get_last_lr``) are those before the multiplier. Weight decay
    is switched off for what it is not meant for, in every group. A resumed run obeys multipliers
    that were changed, as long as the groups are the same.

    Args:
        parts: by names or patterns (``encoder``, ``encoder.blocks.20-``, ``logit_scale``); none to
            change nothing. Where several mean a parameter, the innermost alone counts, and of
            several that mean the same part the last.

    Raises:
        ValueError: at the start of ``fit``, if a name means nothing in the module, a part with
            ``layer_decay`` has no blocks, a parameter that trains is in no group or in two, or
            learning rates are set in a way that cannot be multiplied.

    Source:
        Layer-wise decay: BEiT (Bao et al., 2022), https://arxiv.org/abs/2106.08254, and MAE (He et
        al., 2022), https://arxiv.org/abs/2111.06377.

    Example:
        >>> callback = PretrainedLR({"encoder": PartLR(multiplier=0.1, layer_decay=0.95)})
    """

    def __init__(self, parts: dict[str, PartLR] = {}) -> None:  # noqa: B006
        self.parts = dict(parts)
        self._module: LightningModule | None = None
        self._rates: dict[int, ParameterRate] = {}
        self._refined: set[int] = set()
        self._multipliers: list[tuple[Optimizer, list[float]]] = []
        self._saved: list[list[str]] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wait for the module to make its optimizer."""
        if stage != "fit" or not self.parts:
            return
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(c, PretrainedLR) and c.parts for c in callbacks if c is not self):
            raise ValueError(
                "PretrainedLR: one callback must name all parts, got two. Put them into one."
            )
        self._release()
        self._module, self._saved = pl_module, None
        wrap_hook(pl_module, "configure_optimizers", self._configure_optimizers)
        wrap_hook(pl_module, "lr_scheduler_step", self._step_scheduler)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module's hooks as they were."""
        self._release()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the module's hooks as they were, after an error too."""
        self._release()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note which groups the optimizers had."""
        self._saved = [
            [str(group.get("name")) for group in state["param_groups"]]
            for state in checkpoint.get("optimizer_states", [])
        ]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the multipliers again: a checkpoint has brought those that it was written with."""
        if not self.parts:
            return
        if trainer.lr_scheduler_configs and not pl_module.automatic_optimization:
            raise ValueError(
                f"PretrainedLR: schedulers must be stepped by Lightning, got manual optimization "
                f"with one in {type(pl_module).__name__}. Leave the scheduler out, or set "
                f"automatic_optimization."
            )
        for optimizer, multipliers in self._multipliers:
            for group, multiplier in zip(optimizer.param_groups, multipliers, strict=True):
                group["lr_multiplier"] = multiplier
            scale_rates(optimizer)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        """Check that nobody has overwritten a learning rate."""
        if not self.parts or _sets_rates(trainer, pl_module):
            return
        for group in optimizer.param_groups:
            expected = group.get("unscaled_lr", 0.0) * group.get("lr_multiplier", 1.0)
            if "unscaled_lr" in group and group["lr"] != expected:
                raise ValueError(
                    f"PretrainedLR: learning rates must come from the optimizer and schedulers "
                    f"that Lightning steps, got {group['lr']:g} written to {group['name']} beside "
                    f"them. Write the rate times group['lr_multiplier'], and set "
                    f"sets_learning_rates = True on {type(pl_module).__name__}."
                )

    def _release(self) -> None:
        if self._module is not None:
            unwrap_hook(self._module, "configure_optimizers", self._configure_optimizers)
            unwrap_hook(self._module, "lr_scheduler_step", self._step_scheduler)
            self._module = None

    def _configure_optimizers(self, original: Callable[[], Any]) -> Any:
        module = self._module
        assert module is not None
        self._refined.clear()
        by_name = parameter_rates(module, self.parts)
        self._rates = {id(p): by_name[name] for name, p in module.named_parameters()}
        with refining_groups(self._refine):
            made = original()
        optimizers = optimizers_in(made)
        for optimizer in optimizers:
            if any("lr_multiplier" not in group for group in optimizer.param_groups):
                # It was made before; LightningCLI does so.
                own = [s for s in schedulers_in(made) if s.optimizer is optimizer]
                refine_made(optimizer, own, self._refine)
        self._check(module, optimizers)
        for optimizer in optimizers:
            scale_rates(optimizer)
        self._multipliers = [
            (optimizer, [float(group["lr_multiplier"]) for group in optimizer.param_groups])
            for optimizer in optimizers
        ]
        return made

    def _check(self, module: LightningModule, optimizers: list[Optimizer]) -> None:
        check_coverage(module, optimizers, "PretrainedLR")
        names = [[str(group["name"]) for group in made.param_groups] for made in optimizers]
        if self._saved and self._saved != names:
            raise ValueError(
                "PretrainedLR: a run must be resumed with the parameter groups it was saved with, "
                "got others. Name the same parts, and give layer_decay to the same of them; the "
                "values may change."
            )

    def _refine(
        self, parameter: Tensor, group: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> dict[str, Any]:
        if id(parameter) in self._refined and "lr_multiplier" in group:
            return {}  # an optimizer around another (SAM) hands its own groups on
        self._refined.add(id(parameter))
        rate = self._rates.get(id(parameter))
        if rate is None:  # not the module's own
            return {"lr_multiplier": 1.0, "name": group.get("name", "others")}
        settings: dict[str, Any] = {
            "part": group.get("part", rate.part),
            "lr_multiplier": rate.multiplier * group.get("lr_multiplier", 1.0),
        }
        words = [group.get("name") or rate.named or rate.part]
        if rate.named and not is_within(words[0], [rate.named]):
            words.append(rate.named)
        if rate.layer is not None:
            words.append(f"layer_{rate.layer}")
        decay = _weight_decay(rate, group, defaults.get("weight_decay"))
        if decay and not rate.decays:
            decay = 0.0
            words.append("no_decay")
        if decay is not None:
            settings["weight_decay"] = decay
        return {**settings, "name": ".".join(words)}

    def _step_scheduler(self, original: Callable[..., None], scheduler: Any, metric: Any) -> None:
        with unscaled_rates(scheduler.optimizer):
            original(scheduler, metric)


def _weight_decay(rate: ParameterRate, group: Mapping[str, Any], default: Any) -> Any:
    own = group.get("weight_decay", default)
    if rate.weight_decay is None or own is None:
        return own
    # A group that does not decay for reasons of its own stays so.
    return rate.weight_decay if own or own == default else own


def _sets_rates(trainer: Trainer, module: LightningModule) -> bool:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    says = any(getattr(item, "sets_learning_rates", False) for item in (module, *callbacks))
    return says or isinstance(module, TrainableModule)
